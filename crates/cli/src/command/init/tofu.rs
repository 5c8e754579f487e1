//! What `tofu output -json` says: addresses of servers and agents, under whichever names a module gives them.

use std::io::Read;
use std::net::IpAddr;

use rke2flow_engine::id::HostName;
use serde_json::{Map, Value};

use super::found::{Found, Node, Way};
use crate::args::InitArgs;
use crate::exit::Problem;

/// The largest document that is read, in bytes.
const DOCUMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Words of which an output's name has one when it lists servers, or agents.
const SERVER_WORDS: [&str; 5] = ["master", "server", "control_plane", "controlplane", "controller"];
const AGENT_WORDS: [&str; 3] = ["worker", "agent", "node_pool"];
/// Words that rule an output out: it is about something else.
const OTHER_WORDS: [&str; 9] = ["lb", "load_balancer", "id", "ids", "private", "count", "counts", "ipv6", "initial"];
/// Fields of an object that hold a host's address.
const ADDRESS_FIELDS: [&str; 6] = ["ipv4_address", "public_ip", "public_ipv4", "ipv4", "ip", "address"];

/// The outputs in a file, or on standard input for `-`.
pub(super) fn look(args: &InitArgs, file: &str) -> Result<Found, Problem> {
    let text = read(file).map_err(|error| Problem::bad_input(format!("cannot read {file}")).observed(error))?;
    let outputs: Map<String, Value> = serde_json::from_str(&text).map_err(|error| {
        Problem::bad_input(format!("{file} is not what `tofu output -json` prints"))
            .observed(error)
            .next("tofu output -json > outputs.json\nrke2flow init --from tofu-output outputs.json")
    })?;
    let lists = lists(&outputs);
    let servers = pick(&lists, args.servers.as_deref(), &SERVER_WORDS, &AGENT_WORDS);
    let agents = pick(&lists, args.agents.as_deref(), &AGENT_WORDS, &SERVER_WORDS);
    let (Some(servers), false) = (servers, args.agents.is_some() && agents.is_none()) else {
        return Err(Problem::bad_input(format!(
            "no output of {file} lists the servers' (or the named agents') addresses"
        ))
        .observed(describe(&outputs, &lists))
        .next("rke2flow init --from tofu-output FILE --servers OUTPUT [--agents OUTPUT]"));
    };
    let mut found = Found {
        from: format!("OpenTofu's outputs {file}"),
        servers: nodes(&servers.hosts, "server"),
        agents: agents.map(|list| nodes(&list.hosts, "agent")).unwrap_or_default(),
        ssh: Way::of(args),
        ..Found::default()
    };
    let chosen: Vec<&str> = [Some(servers), agents].into_iter().flatten().map(|list| list.name.as_str()).collect();
    found.notes.push(format!(
        "the addresses come from {}; outputs say no node names, so compare the names here with `kubectl get nodes`",
        chosen.join(" and ")
    ));
    if agents.is_none() {
        found.notes.push("no output lists agents".to_owned());
    }
    for (output, what) in [("etcd_backup_enabled", "`s3`"), ("velero_enabled", "`velero`")] {
        if outputs.get(output).is_some_and(|output| output["value"] == true) {
            found.notes.push(format!("{output} is true: fill in {what} below"));
        }
    }
    Ok(found)
}

/// An output that is a list of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct List {
    name: String,
    /// Names where the output has them, and addresses.
    hosts: Vec<(Option<String>, String)>,
}

/// Every output that is a list of hosts, those inside objects too: a module's outputs are often passed on as one.
fn lists(outputs: &Map<String, Value>) -> Vec<List> {
    let mut lists = Vec::new();
    for (name, output) in outputs {
        let value = output.get("value").unwrap_or(output);
        if let Some(hosts) = hosts(value) {
            lists.push(List { name: name.clone(), hosts });
        }
        for (inner, value) in value.as_object().into_iter().flatten() {
            if let Some(hosts) = hosts(value).filter(|_| value.is_array() || value.is_object()) {
                lists.push(List { name: format!("{name}.{inner}"), hosts });
            }
        }
    }
    lists
}

/// `["1.2.3.4"]`, `{"server-0": "1.2.3.4"}`, `{"server-0": {"ipv4_address": "1.2.3.4"}}`, `[{"name": …, "ip": …}]`.
fn hosts(value: &Value) -> Option<Vec<(Option<String>, String)>> {
    let hosts: Option<Vec<_>> = match value {
        Value::Array(list) => list.iter().map(|item| Some((named(item), address(item)?))).collect(),
        Value::Object(map) => map.iter().map(|(name, item)| Some((Some(name.clone()), address(item)?))).collect(),
        _ => None,
    };
    hosts.filter(|hosts| !hosts.is_empty())
}

fn address(value: &Value) -> Option<String> {
    let text = match value {
        Value::Object(fields) => ADDRESS_FIELDS.iter().find_map(|field| fields.get(*field)?.as_str())?,
        other => other.as_str()?,
    };
    text.parse::<IpAddr>().ok().map(|_| text.to_owned())
}

fn named(value: &Value) -> Option<String> {
    Some(value.get("name").or_else(|| value.get("hostname"))?.as_str()?.to_owned())
}

/// The list of this name; else the one whose name has a word and none of the others', the shortest first.
fn pick<'a>(lists: &'a [List], asked: Option<&str>, words: &[&str], others: &[&str]) -> Option<&'a List> {
    if let Some(asked) = asked {
        return lists.iter().find(|list| list.name == asked);
    }
    let has = |name: &str, words: &[&str]| {
        let name = format!("_{}_", name.to_lowercase().replace(['.', '-'], "_"));
        words.iter().any(|word| name.contains(&format!("_{word}_")) || name.contains(&format!("_{word}s_")))
    };
    let fits = |list: &&List| has(&list.name, words) && !has(&list.name, others) && !has(&list.name, &OTHER_WORDS);
    lists.iter().filter(fits).min_by_key(|list| list.name.len())
}

fn nodes(hosts: &[(Option<String>, String)], role: &str) -> Vec<Node> {
    let name = |index: usize, name: &Option<String>| {
        let given = name.as_ref().map(|name| name.to_lowercase()).filter(|name| HostName::new(name.clone()).is_ok());
        given.unwrap_or_else(|| format!("{role}-{index}"))
    };
    let node = |(index, (given, address)): (usize, &(Option<String>, String))| Node {
        name: name(index, given),
        address: address.clone(),
        arch: None,
    };
    hosts.iter().enumerate().map(node).collect()
}

/// Names and shapes; no values, some of them are secrets.
fn describe(outputs: &Map<String, Value>, lists: &[List]) -> String {
    let mut lines: Vec<String> =
        lists.iter().map(|list| format!("{}: {} addresses", list.name, list.hosts.len())).collect();
    let is_list = |name: &String| lists.iter().any(|list| list.name == *name);
    for (name, output) in outputs.iter().filter(|(name, _)| !is_list(name)) {
        let shape = match output.get("value").unwrap_or(output) {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list, not of addresses",
            Value::Object(_) => "an object",
        };
        lines.push(format!("{name}: {shape}"));
    }
    if lines.is_empty() { "there are no outputs".to_owned() } else { format!("its outputs are\n{}", lines.join("\n")) }
}

fn read(file: &str) -> std::io::Result<String> {
    let mut text = String::new();
    match file {
        "-" => std::io::stdin().lock().take(DOCUMENT_BYTES).read_to_string(&mut text)?,
        path => std::fs::File::open(path)?.take(DOCUMENT_BYTES).read_to_string(&mut text)?,
    };
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn picked(outputs: Value) -> (Option<String>, Option<String>) {
        let lists = lists(outputs.as_object().unwrap());
        let name = |words: &[&str], others: &[&str]| pick(&lists, None, words, others).map(|list| list.name.clone());
        (name(&SERVER_WORDS, &AGENT_WORDS), name(&AGENT_WORDS, &SERVER_WORDS))
    }

    #[test]
    fn the_outputs_of_the_modules_that_are_known_are_found() {
        // mbilan1/terraform-hcloud-ubuntu-rke2, output.tf and modules/infrastructure/outputs.tf.
        let root = json!({
            "cluster_master_nodes_ipv4": {"value": ["1.1.1.1", "1.1.1.2"]}, "cluster_worker_nodes_ipv4": {"value": ["1.1.1.3"]},
            "control_plane_lb_ipv4": {"value": "9.9.9.9"}, "kube_config": {"value": "secret", "sensitive": true},
        });
        let both = |servers: &str, agents: &str| (Some(servers.to_owned()), Some(agents.to_owned()));
        assert_eq!(picked(root), both("cluster_master_nodes_ipv4", "cluster_worker_nodes_ipv4"));
        let module = json!({"rke2": {"value": {
            "master_nodes_ipv4": ["1.1.1.1"], "worker_nodes_ipv4": ["1.1.1.2"], "cluster_ready": "123", "_test_counts": {"masters": 1},
        }}});
        assert_eq!(picked(module), both("rke2.master_nodes_ipv4", "rke2.worker_nodes_ipv4"));
        // mbilan1/terraform-hcloud-rke2-core, outputs.tf.
        let core = json!({
            "control_plane_ipv4_addresses": {"value": {"master-0": "1.1.1.1"}}, "control_plane_server_ids": {"value": {"master-0": "77"}},
            "control_plane_private_ipv4_addresses": {"value": {"master-0": "10.0.0.1"}}, "initial_master_ipv4": {"value": "1.1.1.1"},
        });
        assert_eq!(picked(core), (Some("control_plane_ipv4_addresses".to_owned()), None));
    }

    #[test]
    fn a_host_is_read_in_every_shape_and_keeps_the_name_that_it_has() {
        let shapes = [
            json!(["1.1.1.1"]),
            json!({"m-0": "1.1.1.1"}),
            json!({"m-0": {"ipv4_address": "1.1.1.1", "id": 5}}),
            json!([{"name": "m-0", "public_ip": "1.1.1.1"}]),
        ];
        for (index, shape) in shapes.iter().enumerate() {
            let expected = if index == 0 { "server-0" } else { "m-0" };
            let node = Node { name: expected.to_owned(), address: "1.1.1.1".to_owned(), arch: None };
            assert_eq!(nodes(&hosts(shape).unwrap(), "server"), [node]);
        }
        for other in [json!([]), json!(["no address"]), json!("1.1.1.1"), json!({"a": 1}), json!(null)] {
            assert_eq!(hosts(&other), None);
        }
    }

    #[test]
    fn what_was_found_instead_is_described_without_its_values() {
        let outputs = json!({"kube_config": {"value": "very secret"}, "node_ips": {"value": ["1.1.1.1"]}});
        let outputs = outputs.as_object().unwrap();
        let said = describe(outputs, &lists(outputs));
        assert_eq!(said, "its outputs are\nnode_ips: 1 addresses\nkube_config: a text");
    }
}
