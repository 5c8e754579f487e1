//! Parameters: defaults, `--set name=value` by type, and the values that go into the plan.

/// What `${cluster.x}` can name in the default of a parameter.
pub const CLUSTER_FIELDS: [&str; 3] = ["version", "name", "init"];

/// The field that `${cluster.x}` names, when the text is such a reference alone.
pub(crate) fn cluster_field(text: &str) -> Option<&str> {
    let field = text.strip_prefix("${cluster.")?.strip_suffix('}')?;
    CLUSTER_FIELDS.contains(&field).then_some(field)
}
