//! Our rules beside upstream's, where those are at hand: neither changes the other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rules::fields::Source;
use rules::load::{Loader, RuleSet};
use rules::program::{Program, Selection};

use crate::{check_clean, files, own};

/// Upstream's published data: `KNARR_UPSTREAM`, or the `upstream` folder of the shared place.
fn upstream() -> Option<Vec<(String, String)>> {
    let folder = std::env::var_os("KNARR_UPSTREAM")
        .map_or_else(|| "../../../shared/upstream".into(), PathBuf::from)
        .join("falco-rules");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("SKIPPED: no {}; set KNARR_UPSTREAM", folder.display());
        return None;
    };
    let files = entries.map(|entry| entry.unwrap().path()).map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(&path).unwrap())
    });
    Some(files.collect())
}

fn load(files: &[(String, String)]) -> RuleSet {
    let mut loader = Loader::new();
    for (at, (name, content)) in files.iter().enumerate() {
        check_clean(&loader.load(name, content), at + 1 == files.len());
    }
    loader.finish()
}

/// Each rule's condition, as it is after lists and macros are resolved.
fn conditions(set: &RuleSet) -> BTreeMap<String, String> {
    let described = set.describe();
    let rules = described["rules"].as_array().unwrap();
    rules
        .iter()
        .map(|rule| {
            let name = rule["info"]["name"].as_str().unwrap().to_owned();
            (name, rule["details"]["condition_compiled"].to_string())
        })
        .collect()
}

#[test]
fn both_sets_load_together_in_either_order() {
    let Some(theirs) = upstream() else { return };
    let ours = files();
    let mut apart = conditions(own());
    let count = apart.len();
    let others = conditions(&load(&theirs));
    apart.extend(others.clone());
    assert_eq!(apart.len(), count + others.len(), "two rules of one name");
    for both in [
        [ours.clone(), theirs.clone()].concat(),
        [theirs, ours].concat(),
    ] {
        let both = load(&both);
        assert_eq!(conditions(&both), apart);
        let program = Program::new(&both, &Selection::default());
        assert!(program.events(Source::Syscall).len() < 80);
    }
}
