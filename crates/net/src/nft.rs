//! One nftables table as a value, and the thin layer that makes the kernel agree.
//!
//! A [`Ruleset`] is compared with the one applied last and only the difference is
//! sent, in one transaction: the kernel shows the old table or the new one, never
//! something between. Whatever cannot be said as a small difference replaces the table.
//! The `nft` program does the translation; it runs as a child, off the hot path.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long a transaction may take before `nft` is killed.
const TIMEOUT: Duration = Duration::from_secs(15);

/// `nft` could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is not there or does not start.
    #[error("cannot run `nft`; install the nftables package (version 1.0 or newer)")]
    Start(#[source] io::Error),
    /// The program refused the transaction.
    #[error("nft refused the transaction for table {table}: {message}")]
    Refused {
        /// The table.
        table: String,
        /// The first lines of what it printed.
        message: String,
    },
    /// The program did not end.
    #[error("nft did not finish within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// A chain: its place in the packet path if it is a base chain, and its rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// For example `type nat hook prerouting priority dstnat`.
    pub(crate) hook: Option<&'static str>,
    pub(crate) rules: Vec<String>,
}

/// A set or a map and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    /// For example `type ipv4_addr . inet_service : verdict`. Has a colon: a map.
    pub(crate) of: String,
    /// Key and, in a map, value. Of a set that rules fill themselves: none.
    pub(crate) elements: BTreeMap<String, String>,
}

impl Set {
    pub(crate) fn new(of: impl Into<String>) -> Set {
        Set {
            of: of.into(),
            elements: BTreeMap::new(),
        }
    }

    fn keyword(&self) -> &'static str {
        if self.of.contains(" : ") {
            "map"
        } else {
            "set"
        }
    }
}

/// What a table holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) sets: BTreeMap<String, Set>,
    pub(crate) chains: BTreeMap<String, Chain>,
}

impl Ruleset {
    /// Adds an element unless its key is taken.
    pub(crate) fn element(&mut self, set: &str, key: String, value: impl Into<String>) {
        if let Some(set) = self.sets.get_mut(set) {
            set.elements.entry(key).or_insert_with(|| value.into());
        }
    }

    /// The transaction that replaces the whole table by this one.
    pub(crate) fn replacement(&self, table: &str) -> String {
        let mut script =
            format!("add table ip {table}\ndelete table ip {table}\nadd table ip {table}\n");
        script.push_str(
            &Ruleset::default()
                .difference(self, table)
                .unwrap_or_default(),
        );
        script
    }

    /// The transaction that turns this table into `wanted`, empty if they are equal.
    /// `None` if only a replacement can do it.
    pub(crate) fn difference(&self, wanted: &Ruleset, table: &str) -> Option<String> {
        let mut s = Script {
            text: String::new(),
            table,
        };
        let replaced =
            |(name, set): (&String, &Set)| self.sets.get(name).is_some_and(|old| old.of != set.of);
        let moved = |(name, chain): (&String, &Chain)| {
            self.chains
                .get(name)
                .is_some_and(|old| old.hook != chain.hook)
        };
        if wanted.sets.iter().any(replaced) || wanted.chains.iter().any(moved) {
            return None;
        }
        // First everything that others refer to, last what nothing refers to any more.
        for (name, set) in &wanted.sets {
            if !self.sets.contains_key(name) {
                let (kind, of) = (set.keyword(), &set.of);
                s.line(format_args!("add {kind} ip {table} {name} {{ {of}; }}"));
            }
        }
        for (name, chain) in &wanted.chains {
            if !self.chains.contains_key(name) {
                let hook = chain
                    .hook
                    .map(|h| format!(" {{ {h}; }}"))
                    .unwrap_or_default();
                s.line(format_args!("add chain ip {table} {name}{hook}"));
            }
        }
        for (name, chain) in &wanted.chains {
            let old = self.chains.get(name);
            if old.is_some_and(|old| old.rules == chain.rules) {
                continue;
            }
            if old.is_some_and(|old| !old.rules.is_empty()) {
                s.line(format_args!("flush chain ip {table} {name}"));
            }
            for rule in &chain.rules {
                s.line(format_args!("add rule ip {table} {name} {rule}"));
            }
        }
        let none = BTreeMap::new();
        for (name, set) in &wanted.sets {
            let old = self.sets.get(name).map_or(&none, |old| &old.elements);
            let gone = old.iter().filter(|(k, v)| set.elements.get(*k) != Some(*v));
            s.elements("delete", name, gone);
            let new = set.elements.iter().filter(|(k, v)| old.get(*k) != Some(*v));
            s.elements("add", name, new);
        }
        let dead: Vec<_> = self
            .chains
            .keys()
            .filter(|n| !wanted.chains.contains_key(*n))
            .collect();
        for name in &dead {
            s.line(format_args!("flush chain ip {table} {name}"));
        }
        for (name, set) in self
            .sets
            .iter()
            .filter(|(n, _)| !wanted.sets.contains_key(*n))
        {
            s.line(format_args!("delete {} ip {table} {name}", set.keyword()));
        }
        for name in &dead {
            s.line(format_args!("delete chain ip {table} {name}"));
        }
        Some(s.text)
    }
}

struct Script<'a> {
    text: String,
    table: &'a str,
}

impl Script<'_> {
    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(arguments);
        self.text.push('\n');
    }

    fn elements<'a>(
        &mut self,
        verb: &str,
        set: &str,
        elements: impl Iterator<Item = (&'a String, &'a String)>,
    ) {
        let mut list = String::new();
        for (key, value) in elements {
            list.push_str(if list.is_empty() { "" } else { ", " });
            list.push_str(key);
            if !value.is_empty() {
                list.push_str(" : ");
                list.push_str(value);
            }
        }
        if !list.is_empty() {
            let table = self.table;
            self.line(format_args!("{verb} element ip {table} {set} {{ {list} }}"));
        }
    }
}

/// One table in the kernel, and what we know to be in it.
pub(crate) struct Table {
    name: String,
    applied: Option<Ruleset>,
}

impl Table {
    /// The table of that name; nothing is known of it until the first [`Table::apply`],
    /// which replaces it.
    pub(crate) fn new(name: String) -> Table {
        Table {
            name,
            applied: None,
        }
    }

    /// What was applied last.
    pub(crate) fn applied(&self) -> Option<&Ruleset> {
        self.applied.as_ref()
    }

    /// Makes the kernel's table equal to `wanted`. Answers whether anything was to do.
    /// A difference that is refused (somebody flushed the tables) is made good by a
    /// replacement at once.
    pub(crate) async fn apply(&mut self, wanted: Ruleset) -> Result<bool, NftError> {
        let difference = self
            .applied
            .as_ref()
            .and_then(|applied| applied.difference(&wanted, &self.name));
        if let Some(script) = difference {
            if script.is_empty() {
                return Ok(false);
            }
            match run(&self.name, script).await {
                Ok(()) => {
                    self.applied = Some(wanted);
                    return Ok(true);
                }
                Err(error) => {
                    tracing::warn!(table = self.name, %error, "replacing the whole table");
                }
            }
        }
        // Until the replacement is in, what the kernel holds is not known for sure.
        self.applied = None;
        run(&self.name, wanted.replacement(&self.name)).await?;
        self.applied = Some(wanted);
        Ok(true)
    }
}

/// Removes a table; absent is fine.
pub(crate) async fn remove(table: &str) -> Result<(), NftError> {
    run(
        table,
        format!("add table ip {table}\ndelete table ip {table}\n"),
    )
    .await
}

/// Feeds a transaction to `nft`.
async fn run(table: &str, script: String) -> Result<(), NftError> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NftError::Start)?;
    let stdin = child.stdin.take();
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A child that ends early says why on its stderr.
            let _ = stdin.write_all(script.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(TIMEOUT, talk)
        .await
        .map_err(|_| NftError::Timeout)?
        .map_err(NftError::Start)?;
    if output.status.success() {
        return Ok(());
    }
    tracing::trace!(table, script, "transaction was refused");
    let message = String::from_utf8_lossy(&output.stderr);
    let message = message.lines().take(3).collect::<Vec<_>>().join(" | ");
    Err(NftError::Refused {
        table: table.to_owned(),
        message,
    })
}
