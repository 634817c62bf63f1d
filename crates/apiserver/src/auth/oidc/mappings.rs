//! What a configuration says of claims: how they become a user, and what they must be. Pure.
//!
//! Invariant: where there is no error, every expression of the file is among what is compiled.

use std::collections::BTreeSet;

use api::validate::{FieldError, names};

use super::config::{JwtFile, MappingFile, RuleFile};
use super::expressions::{About, Expression, Expressions, Rule};

const EITHER: &str = "claim or expression is required";
const BOTH: &str = "claim and expression can't both be set";
const UNVERIFIED: &str = "claims.email_verified must be used in claimMappings.username.expression or \
                          claimMappings.extra[*].valueExpression or claimValidationRules[*].expression \
                          when claims.email is used in claimMappings.username.expression";

/// The expressions of an issuer at a path of the file.
pub(super) fn read(jwt: &JwtFile, at: &str, errors: &mut Vec<FieldError>) -> Expressions {
    let mut read = Expressions {
        claims: claim_rules(
            &jwt.claim_validation_rules,
            &format!("{at}.claimValidationRules"),
            errors,
        ),
        ..Expressions::default()
    };
    let mappings = &jwt.claim_mappings;
    let at_mappings = format!("{at}.claimMappings");
    let path = |name: &str| format!("{at_mappings}.{name}");
    read.username = prefixed(&mappings.username, &path("username"), true, errors);
    read.groups = prefixed(&mappings.groups, &path("groups"), false, errors);
    let uid = &mappings.uid;
    if !uid.expression.is_empty() {
        if uid.claim.is_empty() {
            let path = path("uid.expression");
            read.uid = compiled(&uid.expression, About::Claims, false, path, errors);
        } else {
            errors.push(FieldError::invalid(path("uid"), "", BOTH));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, extra) in mappings.extra.iter().enumerate() {
        let path = format!("{at_mappings}.extra[{index}]");
        let at_key = format!("{path}.key");
        check_key(&extra.key, &at_key, errors);
        if !seen.insert(&extra.key) {
            errors.push(FieldError::duplicate(at_key, extra.key.as_str()));
            continue;
        }
        let (source, path) = (&extra.value_expression, format!("{path}.valueExpression"));
        if source.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if let Some(value) = compiled(source, About::Claims, false, path, errors) {
            read.extra.push((extra.key.clone(), value));
        }
    }
    let verified = |expression: &Expression| expression.uses("email_verified");
    if let Some(username) = &read.username
        && username.uses("email")
        && !verified(username)
        && !read.extra.iter().any(|(_, value)| verified(value))
        && !read.claims.iter().any(|rule| verified(&rule.expression))
    {
        let source = mappings.username.expression.as_str();
        let path = path("username.expression");
        errors.push(FieldError::invalid(path, source, UNVERIFIED));
    }
    let path = format!("{at}.userValidationRules");
    read.user = user_rules(&jwt.user_validation_rules, &path, errors);
    read
}

fn compiled(
    source: &str,
    about: About,
    decides: bool,
    path: String,
    errors: &mut Vec<FieldError>,
) -> Option<Expression> {
    match Expression::compile(source, about, decides) {
        Ok(expression) => Some(expression),
        Err(words) => {
            errors.push(FieldError::invalid(path, source, words));
            None
        }
    }
}

fn claim_rules(rules: &[RuleFile], at: &str, errors: &mut Vec<FieldError>) -> Vec<Rule> {
    let (mut read, mut claims, mut sources) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{at}[{index}]");
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => errors.push(FieldError::required(path, EITHER)),
            ("", source) => {
                if !rule.required_value.is_empty() {
                    let words = "may not be specified when expression is set";
                    let path = format!("{path}.requiredValue");
                    let value = rule.required_value.as_str();
                    errors.push(FieldError::invalid(path, value, words));
                }
                let path = format!("{path}.expression");
                if !sources.insert(source) {
                    errors.push(FieldError::duplicate(path, source));
                    continue;
                }
                let expression = compiled(source, About::Claims, true, path, errors);
                read.extend(expression.map(|expression| Rule {
                    expression,
                    message: rule.message.clone(),
                }));
            }
            (claim, "") => {
                if !rule.message.is_empty() {
                    let words = "may not be specified when claim is set";
                    let path = format!("{path}.message");
                    errors.push(FieldError::invalid(path, rule.message.as_str(), words));
                }
                if !claims.insert(claim) {
                    errors.push(FieldError::duplicate(format!("{path}.claim"), claim));
                }
            }
            (claim, _) => errors.push(FieldError::invalid(path, claim, BOTH)),
        }
    }
    read
}

fn user_rules(rules: &[RuleFile], at: &str, errors: &mut Vec<FieldError>) -> Vec<Rule> {
    let (mut read, mut sources) = (Vec::new(), BTreeSet::new());
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{at}[{index}].expression");
        let source = rule.expression.as_str();
        if source.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if sources.insert(source) {
            let expression = compiled(source, About::User, true, path, errors);
            read.extend(expression.map(|expression| Rule {
                expression,
                message: rule.message.clone(),
            }));
        } else {
            errors.push(FieldError::duplicate(path, source));
        }
    }
    read
}

fn prefixed(
    mapping: &MappingFile,
    at: &str,
    required: bool,
    errors: &mut Vec<FieldError>,
) -> Option<Expression> {
    let prefix = format!("{at}.prefix");
    match (mapping.claim.as_str(), mapping.expression.as_str()) {
        ("", "") => {
            if required {
                errors.push(FieldError::required(at, EITHER));
            }
            None
        }
        ("", source) => {
            if let Some(given) = &mapping.prefix {
                let words = "may not be specified when expression is set";
                errors.push(FieldError::invalid(prefix, given.as_str(), words));
            }
            let path = format!("{at}.expression");
            compiled(source, About::Claims, false, path, errors)
        }
        (_, "") => {
            if mapping.prefix.is_none() {
                let words = "prefix is required when claim is set. It can be set to an empty \
                             string to disable prefixing";
                errors.push(FieldError::required(prefix, words));
            }
            None
        }
        (_, _) => {
            errors.push(FieldError::invalid(at, "", BOTH));
            None
        }
    }
}

/// A key is in a domain of whoever makes use of it.
fn check_key(key: &str, at: &str, errors: &mut Vec<FieldError>) {
    let mut invalid = |value: &str, words: &str| errors.push(FieldError::invalid(at, value, words));
    let (domain, rest) = match key.split_once('/') {
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => (domain, rest),
        _ if key.is_empty() => {
            errors.push(FieldError::required(at, ""));
            return;
        }
        _ => {
            let words = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            return invalid(key, words);
        }
    };
    for words in names::dns_subdomain(domain) {
        invalid(domain, &words);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(allowed) {
        let words =
            r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        invalid(rest, words);
    }
    if key.chars().any(char::is_uppercase) {
        invalid(key, "must be lowercase");
    }
    let below = |parent: &str| {
        let rest = domain.strip_suffix(parent);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if below("kubernetes.io") || below("k8s.io") {
        let words = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
        invalid(key, words);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::auth::oidc::config::Configuration;

    fn errors(mappings: &str, rest: &str) -> String {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n\
             jwt:\n- issuer: {{url: 'https://a', audiences: [k]}}\n  \
             claimMappings: {mappings}\n  {rest}\n"
        );
        match Configuration::parse(&text, "https://own") {
            Ok(_) => String::new(),
            Err(error) => stdx::chain::chain(&error),
        }
    }

    #[test]
    fn mappings_are_claims_or_expressions() {
        let name = "username: {expression: claims.sub}";
        for (mappings, words) in [
            (name, ""),
            (
                "username: {claim: sub, prefix: '', expression: claims.sub}",
                "jwt[0].claimMappings.username: Invalid value: \"\": claim and expression can't both be set",
            ),
            (
                "username: {expression: claims.sub, prefix: ''}",
                "username.prefix: Invalid value: \"\": may not be specified when expression is set",
            ),
            (
                "username: {expression: 'claims.'}",
                "username.expression: Invalid value: \"claims.\": compilation failed: ERROR",
            ),
            (
                "username: {expression: user.username}",
                "undeclared reference to 'user'",
            ),
            (
                "username: {expression: claims.email}",
                "claims.email_verified must be used",
            ),
            (
                "username: {expression: 'claims.email_verified ? claims.email : claims.sub'}",
                "",
            ),
            (
                "username: {expression: 'claims.?email_verified.orValue(true) ? claims.email : claims.sub'}",
                "",
            ),
            (
                "username: {expression: claims.sub}, groups: {expression: 'claims.roles.map(r, \"g:\" + r)'}, uid: {expression: claims.oid}",
                "",
            ),
            (
                "username: {expression: claims.sub}, uid: {claim: sub, expression: claims.oid}",
                "claimMappings.uid: Invalid value",
            ),
            (
                "username: {expression: claims.sub}, extra: [{key: example.com/a, valueExpression: claims.a}]",
                "",
            ),
            (
                "username: {expression: claims.sub}, extra: [{key: a, valueExpression: claims.a}]",
                "extra[0].key: Invalid value: \"a\": must be a domain-prefixed path",
            ),
            (
                "username: {expression: claims.sub}, extra: [{key: example.com/A, valueExpression: claims.a}]",
                "must be lowercase",
            ),
            (
                "username: {expression: claims.sub}, extra: [{key: x.k8s.io/a, valueExpression: claims.a}]",
                "are reserved for Kubernetes use",
            ),
            (
                "username: {expression: claims.sub}, extra: [{key: example.com/a}]",
                "extra[0].valueExpression: Required value",
            ),
            (
                "username: {expression: claims.sub}, extra: [{key: example.com/a, valueExpression: 'claims.a'}, {key: example.com/a, valueExpression: 'claims.b'}]",
                "extra[1].key: Duplicate value",
            ),
        ] {
            let said = errors(&format!("{{{mappings}}}"), "");
            assert!(
                said.contains(words) && said.is_empty() == words.is_empty(),
                "{mappings}: {said}"
            );
        }
    }

    #[test]
    fn rules_must_be_known_to_hold_or_not() {
        let name = "{username: {claim: sub, prefix: ''}}";
        for (rules, words) in [
            (
                "claimValidationRules: [{expression: \"claims.hd == 'x'\", message: m}]",
                "",
            ),
            (
                "claimValidationRules: [{expression: claims.hd}]",
                "claimValidationRules[0].expression: Invalid value: \"claims.hd\": must evaluate to bool",
            ),
            (
                "claimValidationRules: [{expression: 'true', requiredValue: x}]",
                "requiredValue: Invalid value",
            ),
            (
                "claimValidationRules: [{expression: 'true'}, {expression: 'true'}]",
                "claimValidationRules[1].expression: Duplicate value",
            ),
            (
                "claimValidationRules: [{claim: a, message: m}]",
                "claimValidationRules[0].message: Invalid value",
            ),
            (
                "claimValidationRules: [{}]",
                "claim or expression is required",
            ),
            (
                "userValidationRules: [{expression: \"!user.username.startsWith('system:')\"}]",
                "",
            ),
            (
                "userValidationRules: [{expression: user.name == 'x'}]",
                "undefined field 'name'",
            ),
            (
                "userValidationRules: [{expression: claims.sub == 'x'}]",
                "undeclared reference to 'claims'",
            ),
            (
                "userValidationRules: [{message: m}]",
                "userValidationRules[0].expression: Required value",
            ),
        ] {
            let said = errors(name, rules);
            assert!(
                said.contains(words) && said.is_empty() == words.is_empty(),
                "{rules}: {said}"
            );
        }
    }
}
