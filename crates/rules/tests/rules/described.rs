//! What was loaded, told again.

use rules::fields::{self, FieldId, Source};
use rules::load::Loader;
use serde_json::json;

const FILE: &str = "
- required_engine_version: 0.40.0
- required_plugin_versions:
  - name: container
    version: 0.4.0
    alternatives:
    - name: other
      version: 1.0.0
- list: inner
  items: [a]
- list: outer
  items: [inner, b]
- macro: opened
  condition: evt.type in (open, openat)
- rule: r
  desc: >
    What it
    is about.
  condition: opened and proc.name in (outer) and not tolower(fd.name) startswith /x and container.id exists
  output: Opened %fd.name by %toupper(proc.name)
  priority: INFO
  tags: [t]
  exceptions:
  - name: e
    fields: [proc.pname, fd.num]
    comps: [in, =]
    values: [[[x], 1]]
";

#[test]
fn rules_macros_and_lists() {
    let mut loader = Loader::new();
    let result = loader.load("f", FILE);
    assert!(result.successful(), "{}", result.verbose());
    let set = loader.finish();
    let described = set.describe();
    assert_eq!(described["required_engine_version"], "0.40.0");
    assert_eq!(
        described["required_plugin_versions"],
        json!([{"name": "container", "version": "0.4.0",
            "alternatives": [{"name": "other", "version": "1.0.0"}]}])
    );
    let rule = &described["rules"][0];
    assert_eq!(rule["info"]["priority"], "Informational");
    assert_eq!(rule["info"]["source"], "syscall");
    assert_eq!(
        rule["details"],
        json!({
            "macros": ["opened"],
            "lists": ["outer"],
            "condition_operators": ["=", "exists", "in", "startswith"],
            "condition_fields": ["container.id", "evt.type", "fd.name", "fd.num", "proc.name", "proc.pname"],
            "output_fields": ["fd.name", "proc.name", "toupper(proc.name)"],
            "exception_fields": ["fd.num", "proc.pname"],
            "exception_names": ["e"],
            "exception_operators": ["=", "in"],
            "events": ["asyncevent", "open", "openat"],
            "condition_compiled": "((evt.type in (open, openat) and proc.name in (a, b) and not tolower(fd.name) startswith /x and container.id exists) and not (proc.pname in (x) and fd.num = 1))",
            "output_compiled": "Opened %fd.name by %toupper(proc.name)",
            "plugins": ["container"],
        })
    );
    assert_eq!(set.describe_rule("r").unwrap()["rules"][0], *rule);
    assert_eq!(set.describe_rule("s"), None);
    assert_eq!(
        described["macros"][0]["details"]["condition_compiled"],
        "evt.type in (open, openat)"
    );
    assert_eq!(
        described["lists"][1],
        json!({
            "info": {"name": "outer", "items": ["b"]},
            "details": {"used": true, "lists": ["inner"], "items_compiled": ["a", "b"], "plugins": []},
        })
    );
    assert!(
        set.list()
            .contains("r                                                  What it is about.\n")
    );
}

#[test]
fn the_catalogue_is_in_order() {
    for (at, field) in fields::all().iter().enumerate() {
        assert_eq!(field.id as usize, at, "{}", field.name);
        assert_eq!(fields::find(field.name).unwrap().id, field.id);
        assert!(!field.about.is_empty() && field.about.len() < 130);
    }
    assert_eq!(FieldId::ProcName.info().name, "proc.name");
    let json = fields::list::json(Some(Source::K8sAudit));
    assert_eq!(json["fieldclasses"].as_array().unwrap().len(), 3);
    let process = fields::list::json(None);
    let aname = process["fieldclasses"][2]["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["name"] == "proc.aname")
        .unwrap();
    assert_eq!(
        aname["argument"],
        json!({"required": false, "type": ["INDEX"]})
    );
    assert!(fields::list::markdown(None).contains("`fd.types` | LIST(CHARBUF) | "));
}
