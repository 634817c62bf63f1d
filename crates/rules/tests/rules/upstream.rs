//! Upstream's rules, where those are at hand.

use std::path::PathBuf;

use rules::load::Loader;

/// Upstream's published data: `KNARR_UPSTREAM`, or the `upstream` folder of the shared place.
pub(crate) fn upstream(file: &str) -> Option<String> {
    let folder = std::env::var_os("KNARR_UPSTREAM")
        .map_or_else(|| "../../../shared/upstream".into(), PathBuf::from);
    let path = folder.join("falco-rules").join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(_) => {
            println!("SKIPPED: no {}; set KNARR_UPSTREAM", path.display());
            None
        }
    }
}

#[test]
fn together() {
    let mut loader = Loader::new();
    for file in [
        "falco_rules.yaml",
        "falco-incubating_rules.yaml",
        "falco-sandbox_rules.yaml",
    ] {
        let Some(text) = upstream(file) else { return };
        let result = loader.load(file, &text);
        println!("{}", result.verbose());
    }
    let set = loader.finish();
    for rule in set.rules() {
        let names: Vec<_> = rule.events.iter().map(|event| event.name()).collect();
        println!(
            "{} {} {:?}",
            rule.name,
            names.len(),
            &names[..names.len().min(12)]
        );
    }
}
