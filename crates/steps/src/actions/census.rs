//! How many objects of which kind there are, and which have come or changed since a moment: what a restore loses.

use jiff::Timestamp;
use rke2flow_engine::action::Failure;

use crate::actions::World;
use crate::kinds::AnyKind;

/// The kinds that people make, and where they are listed. Not those that come and go by themselves (pods, events,
/// leases, endpoints), and not nodes, which are told by name.
pub(crate) const KINDS: [(&str, &str); 19] = [
    ("namespaces", "/api/v1/namespaces"),
    ("deployments", "/apis/apps/v1/deployments"),
    ("stateful sets", "/apis/apps/v1/statefulsets"),
    ("daemon sets", "/apis/apps/v1/daemonsets"),
    ("cron jobs", "/apis/batch/v1/cronjobs"),
    ("jobs", "/apis/batch/v1/jobs"),
    ("services", "/api/v1/services"),
    ("ingresses", "/apis/networking.k8s.io/v1/ingresses"),
    ("network policies", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("config maps", "/api/v1/configmaps"),
    ("secrets", "/api/v1/secrets"),
    ("volume claims", "/api/v1/persistentvolumeclaims"),
    ("volumes", "/api/v1/persistentvolumes"),
    ("service accounts", "/api/v1/serviceaccounts"),
    ("roles", "/apis/rbac.authorization.k8s.io/v1/roles"),
    ("role bindings", "/apis/rbac.authorization.k8s.io/v1/rolebindings"),
    ("cluster role bindings", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ("resource definitions", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
    ("Helm charts", "/apis/helm.cattle.io/v1/helmcharts"),
];
/// Objects of one page, and pages of one kind that are read: 2,000 objects tell enough.
const PAGE: usize = 250;
const PAGES_MAX: usize = 8;

/// What became of one kind since a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Since {
    /// Objects that are new.
    pub created: Vec<AnyKindName>,
    /// How many older ones are not as they were.
    pub changed: usize,
    /// How many there are now; `None`: there are more than are read.
    pub now: Option<usize>,
}

/// An object's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnyKindName {
    /// Its namespace; empty: it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// How many objects a kind has, without reading them; `None`: the API does not tell.
pub(crate) async fn count(world: &World, path: &str) -> Result<Option<u64>, Failure> {
    let Some(page) = world.objects().page::<AnyKind>(path, 1, "").await? else { return Ok(None) };
    Ok(match (page.remaining, page.next.as_str()) {
        (Some(remaining), _) => Some(page.items.len() as u64 + remaining),
        (None, "") => Some(page.items.len() as u64),
        (None, _) => None,
    })
}

/// What became of a kind since `moment`, when etcd was at `revision` (0: not known). What rke2flow itself made for a
/// run does not count. `None`: the API does not serve the kind.
pub(crate) async fn since(
    world: &World,
    path: &str,
    moment: Timestamp,
    revision: i64,
) -> Result<Option<Since>, Failure> {
    let (mut since, mut seen, mut next) = (Since::default(), 0, String::new());
    for _ in 0..PAGES_MAX {
        let Some(page) = world.objects().page::<AnyKind>(path, PAGE, &next).await? else { return Ok(None) };
        seen += page.items.len();
        for object in page.items.into_iter().map(|object| object.metadata) {
            let is_newer = object.resource_version.parse::<i64>().is_ok_and(|now| revision > 0 && now > revision);
            if object.run().is_some() {
                continue;
            }
            if object.creation_timestamp.is_some_and(|created| created > moment) {
                since.created.push(AnyKindName { namespace: object.namespace, name: object.name });
            } else if is_newer {
                since.changed += 1;
            }
        }
        next = page.next;
        if next.is_empty() {
            since.now = Some(seen);
            break;
        }
    }
    Ok(Some(since))
}
