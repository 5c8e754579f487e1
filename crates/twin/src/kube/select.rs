//! Label and field selectors, as kubectl writes them into a query.

use serde_json::Value;

/// A parsed query string.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads `a=b&c=d`, percent-encoded.
    pub fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        };
        Self { pairs: text.split('&').filter(|part| !part.is_empty()).map(pair).collect() }
    }

    /// The value of a parameter; empty when it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// Whether a parameter is there, with a value or without.
    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(found, _)| found == name)
    }

    /// Whether a parameter is set to true.
    pub fn is_set(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1")
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether an object fits the query's `labelSelector` and `fieldSelector`.
pub fn selected(query: &Query, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    let label = |term: &str| term_fits(term, |name| labels[name].as_str().map(str::to_owned));
    let field = |term: &str| term_fits(term, |path| Some(field_of(object, path)));
    terms(query.get("labelSelector")).iter().all(|term| label(term))
        && terms(query.get("fieldSelector")).iter().all(|term| field(term))
}

fn field_of(object: &Value, path: &str) -> String {
    let found = object.pointer(&format!("/{}", path.replace('.', "/")));
    found.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Splits at commas outside of parentheses.
fn terms(selector: &str) -> Vec<String> {
    let mut depth = 0;
    let mut terms = vec![String::new()];
    for c in selector.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            terms.push(String::new());
        } else if let Some(last) = terms.last_mut() {
            last.push(c);
        }
    }
    terms.into_iter().map(|term| term.trim().to_owned()).filter(|term| !term.is_empty()).collect()
}

fn term_fits(term: &str, value: impl Fn(&str) -> Option<String>) -> bool {
    if let Some((name, wanted)) = term.split_once("!=") {
        return value(name.trim()).as_deref() != Some(wanted.trim());
    }
    if let Some((name, wanted)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return value(name.trim()).as_deref() == Some(wanted.trim());
    }
    for (word, inside) in [(" notin ", false), (" in ", true)] {
        if let Some((name, set)) = term.split_once(word) {
            let set = set.trim().trim_start_matches('(').trim_end_matches(')');
            let found = value(name.trim());
            return set.split(',').any(|one| Some(one.trim()) == found.as_deref()) == inside;
        }
    }
    match term.strip_prefix('!') {
        Some(name) => value(name.trim()).is_none(),
        None => value(term).is_some(),
    }
}

/// Whether labels fit a `LabelSelector` object.
pub fn labels_match(selector: &Value, labels: &Value) -> bool {
    let equal =
        selector["matchLabels"].as_object().is_none_or(|all| all.iter().all(|(name, value)| labels[name] == *value));
    let fits = |expression: &Value| {
        let name = expression["key"].as_str().unwrap_or_default();
        let has = labels.get(name).filter(|value| !value.is_null());
        let listed =
            expression["values"].as_array().is_some_and(|values| values.iter().any(|value| has == Some(value)));
        match expression["operator"].as_str() {
            Some("Exists") => has.is_some(),
            Some("DoesNotExist") => has.is_none(),
            Some("In") => listed,
            Some("NotIn") => !listed,
            _ => false,
        }
    };
    equal && selector["matchExpressions"].as_array().is_none_or(|all| all.iter().all(fits))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_of_kubectl_select_what_they_say() {
        let pod = json!({"metadata": {"name": "p", "labels": {"app": "a", "tier": "x"}}, "spec": {"nodeName": "n"}});
        let fits = |query: &str| selected(&Query::parse(query), &pod);
        assert!(fits("labelSelector=app%3Da%2Ctier&fieldSelector=spec.nodeName%3Dn"));
        assert!(fits("labelSelector=app+in+%28a%2Cb%29"));
        assert!(fits("labelSelector=%21zone"));
        assert!(!fits("labelSelector=app%21%3Da"));
        assert!(!fits("fieldSelector=metadata.name%3Dq"));
        assert!(!fits("labelSelector=tier notin (x)"));
    }
}
