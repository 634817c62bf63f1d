//! The users and groups of a captured machine.

use super::cursor::{Cursor, put_entry, put_text};
use super::{CaptureError, MOST_PATH_BYTES};

const OF_USER: u8 = 0;
const OF_GROUP: u8 = 1;
/// Longest name that upstream's reader takes (`MAX_CREDENTIALS_STR_LEN`).
const MOST_NAME_BYTES: usize = 255;

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// Its name.
    pub name: String,
    /// Its home folder.
    pub home: String,
    /// Its shell.
    pub shell: String,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub gid: u32,
    /// Its name.
    pub name: String,
}

/// Users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Users.
    pub users: Vec<User>,
    /// Groups.
    pub groups: Vec<Group>,
}

impl Accounts {
    /// Those of files in the form of `/etc/passwd` and `/etc/group`. Lines that are none are left out.
    #[must_use]
    pub fn of_files(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let field = |place: usize| fields.get(place).map(|field| (*field).to_owned());
            Some(User {
                uid: fields.get(2)?.parse().ok()?,
                gid: fields.get(3)?.parse().ok()?,
                name: field(0)?,
                home: field(5).unwrap_or_default(),
                shell: field(6).unwrap_or_default(),
            })
        });
        let groups = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let gid = fields.nth(1)?.parse().ok()?;
            Some(Group { gid, name })
        });
        Self {
            users: users.collect(),
            groups: groups.collect(),
        }
    }

    pub(super) fn read(mut block: Cursor<'_>, sized: bool) -> Result<Self, CaptureError> {
        let mut accounts = Self::default();
        while let Some(mut entry) = block.entry(sized)? {
            let text = |entry: &mut Cursor<'_>| {
                entry
                    .text()
                    .map(|text| String::from_utf8_lossy(text).into_owned())
            };
            match entry.u8()? {
                OF_USER => accounts.users.push(User {
                    uid: entry.u32()?,
                    gid: entry.u32()?,
                    name: text(&mut entry)?,
                    home: text(&mut entry)?,
                    shell: text(&mut entry)?,
                }),
                OF_GROUP => accounts.groups.push(Group {
                    gid: entry.u32()?,
                    name: text(&mut entry)?,
                }),
                _ => return Err(entry.corrupt("an account is neither user nor group")),
            }
            if !sized {
                block = entry;
            }
        }
        Ok(accounts)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for user in &self.users {
            put_entry(out, |out| {
                out.push(OF_USER);
                out.extend(user.uid.to_le_bytes());
                out.extend(user.gid.to_le_bytes());
                put_text(out, user.name.as_bytes(), MOST_NAME_BYTES);
                put_text(out, user.home.as_bytes(), MOST_PATH_BYTES);
                put_text(out, user.shell.as_bytes(), MOST_PATH_BYTES);
            });
        }
        for group in &self.groups {
            put_entry(out, |out| {
                out.push(OF_GROUP);
                out.extend(group.gid.to_le_bytes());
                put_text(out, group.name.as_bytes(), MOST_NAME_BYTES);
            });
        }
    }
}
