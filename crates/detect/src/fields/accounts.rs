//! `user` and `group` fields: numbers from the thread, names from the machine's own files, or from
//! the container's.

use rules::Values;
use rules::fields::FieldId as F;

use super::SyscallEvent;
use super::host::Directory;

/// What upstream prints where there is no name.
const NO_NAME: &[u8] = b"<NA>";

/// What of an account is asked for.
#[derive(Clone, Copy)]
enum Part {
    Name,
    Home,
    Shell,
}

impl SyscallEvent<'_> {
    pub(super) fn account_field<'a>(&'a self, field: F, out: &mut Values<'a>) -> bool {
        let Some(thread) = self.thread else {
            return matches!(field.info().class, rules::fields::Class::User)
                || matches!(field, F::GroupGid | F::GroupName);
        };
        match field {
            F::UserUid => out.unsigned(thread.uid.into()),
            F::UserName => self.user(thread.uid, Part::Name, out),
            F::UserHomedir => self.user(thread.uid, Part::Home, out),
            F::UserShell => self.user(thread.uid, Part::Shell, out),
            F::UserLoginuid => {
                let nobody = thread.loginuid == u32::MAX;
                out.signed(if nobody { -1 } else { thread.loginuid.into() });
            }
            F::UserLoginname => self.user(thread.loginuid, Part::Name, out),
            F::GroupGid => out.unsigned(thread.gid.into()),
            F::GroupName => self.with_group(thread.gid, |name| match name {
                Some(name) => out.write(|store| store.extend_from_slice(name)),
                None => out.text(NO_NAME),
            }),
            _ => return false,
        }
        true
    }

    fn user<'a>(&'a self, uid: u32, part: Part, out: &mut Values<'a>) {
        let of = |directory: &Directory, store: &mut Vec<u8>| {
            let Some(user) = directory.user(uid) else {
                return false;
            };
            store.extend_from_slice(match part {
                Part::Name => user.name.as_bytes(),
                Part::Home => user.home.as_bytes(),
                Part::Shell => user.shell.as_bytes(),
            });
            true
        };
        let own = self
            .thread
            .and_then(|thread| self.host.container_accounts(thread));
        out.write(|store| {
            let found = match &own {
                Some(own) => of(own, store),
                None => of(&self.host.accounts, store),
            };
            if !found {
                store.extend_from_slice(match (uid, part) {
                    (0, Part::Name) => b"root",
                    (0, Part::Home) => b"/root",
                    _ => NO_NAME,
                });
            }
        });
    }

    /// Calls `take` with the name of a user, where there is one.
    pub(super) fn with_user<R>(&self, uid: u32, take: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let own = self
            .thread
            .and_then(|thread| self.host.container_accounts(thread));
        let directory = own.as_deref().unwrap_or(&self.host.accounts);
        take(directory.user(uid).map(|user| user.name.as_bytes()))
    }

    /// Calls `take` with the name of a group, where there is one.
    pub(super) fn with_group<R>(&self, gid: u32, take: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let own = self
            .thread
            .and_then(|thread| self.host.container_accounts(thread));
        let directory = own.as_deref().unwrap_or(&self.host.accounts);
        take(directory.group(gid).map(|group| group.name.as_bytes()))
    }
}
