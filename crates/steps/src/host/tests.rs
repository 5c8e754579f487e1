use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use rke2flow_engine::action::{Claim, Context, FailureClass, Progress};
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::{HostName, InstanceId, RunId, StepId, Target, UnitName};

use super::*;
use crate::answer::{ClaimState, ResetState};
use crate::command::{Change, ClaimCommand};
use crate::ports::{Http, KubeApi, KubeRequest, KubeResponse, Shell};

type Answer = Box<dyn FnMut(&HostName, &Envelope) -> Result<Output, AccessError> + Send>;

/// A shell that answers by a closure and remembers what it was sent.
struct FakeShell {
    answer: Mutex<Answer>,
    sent: Mutex<Vec<(String, HostCommand)>>,
}

#[async_trait]
impl Shell for FakeShell {
    async fn run(&self, host: &HostName, envelope: &Envelope) -> Result<Output, AccessError> {
        self.sent.lock().unwrap().push((host.to_string(), envelope.command.clone()));
        (self.answer.lock().unwrap())(host, envelope)
    }
}

struct Nobody;

#[async_trait]
impl KubeApi for Nobody {
    async fn call(&self, _: Option<&HostName>, _: &KubeRequest) -> Result<KubeResponse, AccessError> {
        Err(lost("kube"))
    }
}

#[async_trait]
impl Http for Nobody {
    async fn get(&self, _: &str) -> Result<(u16, String), AccessError> {
        Err(lost("http"))
    }
}

fn lost(whom: &str) -> AccessError {
    AccessError::Unknown { whom: whom.to_owned(), why: "cable".to_owned() }
}

fn unreachable(whom: &str) -> AccessError {
    AccessError::Unreachable { whom: whom.to_owned(), why: "no route".to_owned() }
}

fn printed(answer: &impl serde::Serialize) -> Result<Output, AccessError> {
    Ok(Output { exit: 0, stdout: serde_json::to_vec(answer).unwrap(), stderr: Vec::new() })
}

fn finished(exit: i32, tail: &str) -> Result<Output, AccessError> {
    printed(&ReceiptAnswer::Finished { exit, boot: "b1".to_owned(), tail: BASE64.encode(tail) })
}

fn hosts(
    answer: impl FnMut(&HostName, &Envelope) -> Result<Output, AccessError> + Send + 'static,
) -> (Hosts, Arc<FakeShell>) {
    let cluster: Cluster = serde_json::from_str(
        r#"{"format":1,"name":"c","hosts":[
            {"name":"s0","address":"s0","role":"Server"},{"name":"s1","address":"s1","role":"Server"},
            {"name":"s2","address":"s2","role":"Server"},{"name":"a0","address":"a0","role":"Agent"}]}"#,
    )
    .unwrap();
    let shell = Arc::new(FakeShell { answer: Mutex::new(Box::new(answer)), sent: Mutex::default() });
    let redactor = Redactor::default();
    redactor.learn("hunter22");
    let paths = HostPaths::of(&cluster);
    let access = Access {
        history: Arc::default(),
        cluster: Arc::new(cluster),
        paths,
        lost: Vec::new(),
        token: None,
        shell: shell.clone(),
        kube: Arc::new(Nobody),
        bucket: None,
        http: Arc::new(Nobody),
        redactor,
    };
    (Hosts::new(access), shell)
}

/// Hosts that give these answers in turn.
fn scripted(answers: Vec<Result<Output, AccessError>>) -> (Hosts, Arc<FakeShell>) {
    let mut answers = VecDeque::from(answers);
    hosts(move |_, _| answers.pop_front().expect("one question too many"))
}

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn claim(number: u64, holder: &str, run: &str) -> Claim {
    Claim { number, holder: holder.to_owned(), run: RunId::new(run).unwrap(), cluster: "c".to_owned() }
}

fn context(said: &Arc<Mutex<Vec<String>>>) -> Context {
    let (run, step) = (RunId::new("261122-0312-k7q2").unwrap(), StepId::new("reset").unwrap());
    let target = Target::Host(host("s0"));
    let instance = InstanceId::new(&step, "ClusterReset", 1, &target);
    let clock = Clock::real();
    let sink = said.clone();
    Context {
        cluster: "c".to_owned(),
        unit: UnitName::new(&run, &instance, 1),
        claim: Some(claim(8, "alice@laptop", run.as_str())),
        waived: Vec::new(),
        opened_at: jiff::Timestamp::UNIX_EPOCH,
        deadline: clock.deadline(Duration::from_secs(60)),
        progress: Progress::new(move |hint| sink.lock().unwrap().push(hint.to_owned())),
        attempt: 1,
        round: None,
        run,
        step,
        instance,
        target,
        clock,
    }
}

fn changes(shell: &FakeShell) -> usize {
    shell.sent.lock().unwrap().iter().filter(|(_, command)| matches!(command, HostCommand::Change(_))).count()
}

#[tokio::test(start_paused = true)]
async fn an_order_is_sent_once_and_followed_to_its_receipt() {
    let running = || printed(&ReceiptAnswer::Running);
    let (hosts, shell) = scripted(vec![running(), running(), running(), finished(0, "said hunter22 and done")]);
    let said = Arc::default();
    let receipt = hosts.order(&context(&said), &host("s0"), Change::StartUnit).await.unwrap();
    assert_eq!((receipt.exit, receipt.boot.as_str()), (0, "b1"));
    assert_eq!(receipt.tail, "said [redacted] and done");
    assert_eq!(changes(&shell), 1);
    assert!(said.lock().unwrap()[0].starts_with("waiting for unit rke2flow-261122-0312-k7q2-"));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_never_arrived_is_sent_again_and_one_that_did_is_not() {
    let (hosts, shell) = scripted(vec![
        Err(lost("s0")),
        Err(unreachable("s0")),
        printed(&ReceiptAnswer::Unknown),
        Err(lost("s0")),
        printed(&ReceiptAnswer::Running),
        finished(0, ""),
    ]);
    hosts.order(&context(&Arc::default()), &host("s0"), Change::StartUnit).await.unwrap();
    assert_eq!(changes(&shell), 2);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_reached_fails_the_attempt_before_anything_is_sent() {
    let (hosts, shell) = scripted(vec![Err(unreachable("s0"))]);
    let failure = hosts.order(&context(&Arc::default()), &host("s0"), Change::StartUnit).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);
    assert_eq!(failure.what, "cannot reach s0: no route");
    assert_eq!(shell.sent.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_falls_silent_is_waited_for_until_the_deadline_with_a_word() {
    let mut first = true;
    let (hosts, shell) =
        hosts(
            move |_, _| {
                if std::mem::take(&mut first) { printed(&ReceiptAnswer::Running) } else { Err(unreachable("s0")) }
            },
        );
    let said = Arc::default();
    let began = tokio::time::Instant::now();
    let failure = hosts.order(&context(&said), &host("s0"), Change::StartUnit).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_secs(60));
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.what.ends_with("on s0 did not end in time"), "{failure:?}");
    assert_eq!(failure.observed, "cannot reach s0: no route");
    assert_eq!(failure.next, "rke2flow logs 261122-0312-k7q2 reset");
    assert!(said.lock().unwrap().last().unwrap().ends_with("on s0: cannot reach s0: no route"));
    assert_eq!(changes(&shell), 1);
}

#[tokio::test(start_paused = true)]
async fn a_script_that_fails_shows_the_end_of_its_output_without_secrets() {
    let (hosts, _) = scripted(vec![finished(3, "password hunter22 rejected")]);
    let failure = hosts.order(&context(&Arc::default()), &host("s0"), Change::StartUnit).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.what.ends_with("on s0 ended with exit 3"));
    assert_eq!(failure.observed, "password [redacted] rejected");
}

#[tokio::test(start_paused = true)]
async fn what_a_script_refuses_is_not_tried_again() {
    let (hosts, _) = scripted(vec![finished(crate::answer::REFUSED_EXIT, "the hold is still on")]);
    let failure = hosts.order(&context(&Arc::default()), &host("s0"), Change::StartUnit).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.what.starts_with("s0 refuses the order of rke2flow-261122-0312-k7q2-"), "{}", failure.what);
    assert_eq!(failure.observed, "the hold is still on");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_another_operator_holds_fences_the_run_and_says_who() {
    let state = ClaimState { claim: claim(9, "bob@desk", "261122-0400-aaaa"), since: 0, released: false };
    let (hosts, _) = scripted(vec![printed(&ReceiptAnswer::Refused(Some(state)))]);
    let failure = hosts.order(&context(&Arc::default()), &host("s0"), Change::StartUnit).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Fenced);
    assert_eq!(failure.observed, "bob@desk with run 261122-0400-aaaa since 1970-01-01T00:00:00Z (claim 9)");
}

#[tokio::test(start_paused = true)]
async fn a_reboot_in_the_middle_is_a_failure_that_may_pass() {
    let (hosts, _) = scripted(vec![
        printed(&ReceiptAnswer::Running),
        printed(&ReceiptAnswer::Interrupted { boot: "b1".to_owned() }),
    ]);
    let failure = hosts.order(&context(&Arc::default()), &host("s0"), Change::StartUnit).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.what.ends_with("was interrupted by a reboot of s0"));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_sends_no_order() {
    let (hosts, shell) = scripted(vec![]);
    let context = Context { claim: None, ..context(&Arc::default()) };
    let failure = hosts.order(&context, &host("s0"), Change::StartUnit).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(shell.sent.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_is_the_last_line_and_a_strange_one_is_refused_without_its_secrets() {
    let out = |text: &str| Ok(Output { exit: 0, stdout: text.as_bytes().to_vec(), stderr: Vec::new() });
    let (hosts, _) = scripted(vec![
        out("Welcome!\n{\"complete\":true,\"missing\":[]}\n"),
        out(""),
        out("{\"text\": \"c2VjcmV0"),
        Ok(Output { exit: 2, stdout: Vec::new(), stderr: b"sh: no such thing\n".to_vec() }),
    ]);
    assert!(hosts.release(&host("s0"), "v1").await.unwrap().complete);
    for expected in ["expected one JSON object", "expected one JSON object: EOF", "exit 2: sh: no such thing"] {
        let failure = hosts.release(&host("s0"), "v1").await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Permanent);
        assert!(failure.what.contains(expected) && !failure.what.contains("c2VjcmV0"), "{failure:?}");
    }
    let unknown = hosts.release(&host("nobody"), "v1").await.unwrap_err();
    assert!(unknown.what.contains("there is no host `nobody`"));
}

/// What each host remembers; a host that is not in it does not answer.
type Memory = Arc<Mutex<BTreeMap<String, Option<ClaimState>>>>;

/// Hosts that keep claims by the contract's rule.
fn claiming() -> (Hosts, Memory) {
    let memory: Memory = Arc::new(Mutex::new(["s0", "s1", "s2", "a0"].map(|name| (name.to_owned(), None)).into()));
    let kept = memory.clone();
    let (hosts, _) = hosts(move |host, envelope| {
        let mut kept = kept.lock().unwrap();
        let state = kept.get_mut(host.as_str()).ok_or_else(|| unreachable(host.as_str()))?;
        match &envelope.command {
            HostCommand::Claim(ClaimCommand::Take(new)) => match state {
                Some(old) if old.claim != *new && old.claim.number >= new.number => {
                    printed(&ClaimAnswer::Refused(old.clone()))
                }
                _ => {
                    *state = Some(ClaimState { claim: new.clone(), since: 0, released: false });
                    printed(&ClaimAnswer::Accepted)
                }
            },
            HostCommand::Claim(ClaimCommand::Release(old)) => {
                if let Some(state) = state.as_mut().filter(|state| state.claim == *old) {
                    state.released = true;
                }
                printed(&ClaimAnswer::Accepted)
            }
            HostCommand::Change(order) => match state {
                Some(old) if old.claim == order.claim => finished(0, ""),
                other => printed(&ReceiptAnswer::Refused(other.clone())),
            },
            _ => printed(&Survey { claim: state.clone(), ..Survey::default() }),
        }
    });
    (hosts, memory)
}

fn run(id: &str) -> RunId {
    RunId::new(id).unwrap()
}

#[tokio::test]
async fn a_claim_is_one_more_than_the_greatest_and_is_taken_up_again_by_its_own_run() {
    let (hosts, memory) = claiming();
    let claims = Claims::new(hosts, Vec::new());
    memory
        .lock()
        .unwrap()
        .insert("a0".to_owned(), Some(ClaimState { claim: claim(6, "bob", "r1"), since: 0, released: true }));
    let taken = claims.acquire("alice", &run("r2"), Takeover::No).await.unwrap();
    assert_eq!((taken.claim.number, taken.silent.len()), (7, 0));
    assert!(memory.lock().unwrap().values().all(|state| state.as_ref().unwrap().claim == taken.claim));
    let again = claims.acquire("alice", &run("r2"), Takeover::No).await.unwrap();
    assert_eq!(again.claim, taken.claim);
    claims.verify(&taken.claim).await.unwrap();
}

#[tokio::test]
async fn a_cluster_that_is_held_is_refused_and_left_as_it_was_until_somebody_says_takeover() {
    let (hosts, memory) = claiming();
    let claims = Claims::new(hosts, Vec::new());
    let held = claims.acquire("bob", &run("r1"), Takeover::No).await.unwrap();
    let before = memory.lock().unwrap().clone();
    for takeover in [Takeover::No, Takeover::OwnRuns] {
        let refused = claims.acquire("alice", &run("r2"), takeover).await.unwrap_err();
        assert_eq!(refused.to_string(), "s0 is held by bob with run r1 since 1970-01-01T00:00:00Z (claim 1)");
    }
    assert!(claims.acquire("bob", &run("r2"), Takeover::No).await.is_err());
    assert_eq!(*memory.lock().unwrap(), before);
    let taken = claims.acquire("alice", &run("r2"), Takeover::Anyone).await.unwrap();
    assert_eq!(taken.claim.number, 2);
    assert!(matches!(claims.verify(&held.claim).await, Err(ClaimsError::Held { .. })));
    assert!(matches!(claims.take(held.claim).await, Err(ClaimsError::Held { .. })));
}

#[tokio::test]
async fn the_same_person_may_supersede_an_own_run_and_a_released_claim_holds_nobody_off() {
    let (hosts, memory) = claiming();
    let claims = Claims::new(hosts, Vec::new());
    claims.acquire("bob", &run("r1"), Takeover::No).await.unwrap();
    let second = claims.acquire("bob", &run("r2"), Takeover::OwnRuns).await.unwrap();
    assert!(claims.release(&second.claim).await.is_empty());
    assert!(memory.lock().unwrap().values().all(|state| state.as_ref().unwrap().released));
    assert!(claims.verify(&second.claim).await.is_err());
    assert_eq!(claims.acquire("alice", &run("r3"), Takeover::No).await.unwrap().claim.number, 3);
}

#[tokio::test]
async fn a_majority_of_the_servers_that_are_not_lost_is_needed_and_enough() {
    let (hosts, memory) = claiming();
    memory.lock().unwrap().remove("s0");
    let taken = Claims::new(hosts.clone(), Vec::new()).acquire("alice", &run("r1"), Takeover::No).await.unwrap();
    assert_eq!(taken.silent, [(host("s0"), "cannot reach s0: no route".to_owned())]);
    memory.lock().unwrap().remove("s1");
    let refused = Claims::new(hosts.clone(), Vec::new()).take(taken.claim.clone()).await.unwrap_err();
    assert!(refused.to_string().starts_with("only 1 of 3 servers answer, 2 are needed: s0: "), "{refused}");
    assert!(Claims::new(hosts.clone(), Vec::new()).verify(&taken.claim).await.is_err());
    let without = Claims::new(hosts, vec![host("s0"), host("s1")]);
    without.take(taken.claim.clone()).await.unwrap();
    without.verify(&taken.claim).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_away_when_the_claim_was_taken_is_told_of_it_by_the_first_order() {
    let (hosts, memory) = claiming();
    let old = Some(ClaimState { claim: claim(1, "bob", "r0"), since: 0, released: true });
    memory.lock().unwrap().insert("s0".to_owned(), old);
    let claims = Claims::new(hosts.clone(), Vec::new());
    let away = memory.lock().unwrap().remove("s0").unwrap();
    let mut context = context(&Arc::default());
    context.claim = Some(claim(2, "alice", "r1"));
    claims.take(context.claim.clone().unwrap()).await.unwrap();
    memory.lock().unwrap().insert("s0".to_owned(), away);
    hosts.order(&context, &host("s0"), Change::StartUnit).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stale_engine_does_not_win_a_host_that_was_away_when_another_one_took_over() {
    let (hosts, memory) = claiming();
    let claims = Claims::new(hosts.clone(), Vec::new());
    let away = memory.lock().unwrap().remove("s0").unwrap();
    let mut context = context(&Arc::default());
    context.claim = Some(claims.acquire("alice", &run("r1"), Takeover::No).await.unwrap().claim);
    claims.acquire("bob", &run("r2"), Takeover::Anyone).await.unwrap();
    memory.lock().unwrap().insert("s0".to_owned(), away);
    let failure = hosts.order(&context, &host("s0"), Change::StartUnit).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Fenced);
}

#[tokio::test(start_paused = true)]
async fn what_another_run_has_begun_is_waited_for_and_what_does_not_end_is_named() {
    let looks = Arc::new(Mutex::new(0));
    let counted = looks.clone();
    let units = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (hosts, _) = hosts(move |host, _| match host.as_str() {
        "s0" => {
            let mut looks = counted.lock().unwrap();
            *looks += 1;
            let install: &[&str] = if *looks < 4 { &["rke2flow-r1-0a-a1", "rke2flow-r2-0a-a1"] } else { &[] };
            printed(&Survey { our_units: units(install), ..Survey::default() })
        }
        "s1" => {
            let reset = ResetState { run: "r1".to_owned(), sha256: String::new(), proved: false, started_since: false };
            printed(&Survey { our_units: units(&["rke2flow-r1-0b-a2"]), reset: Some(reset), ..Survey::default() })
        }
        "s2" => Err(unreachable("s2")),
        _ => printed(&Survey { our_units: units(&["rke2flow-r2-0c-a1"]), ..Survey::default() }),
    });
    let claims = Claims::new(hosts, Vec::new());
    let (clock, said) = (Clock::real(), Mutex::new(Vec::new()));
    let left = claims.await_others(&run("r2"), &clock, |at_work| said.lock().unwrap().push(at_work.to_vec())).await;
    let reset = AtWork { host: host("s1"), unit: "rke2flow-r1-0b-a2".to_owned(), resets: true };
    let install = AtWork { host: host("s0"), unit: "rke2flow-r1-0a-a1".to_owned(), resets: false };
    assert_eq!(left, std::slice::from_ref(&reset));
    assert_eq!(*said.lock().unwrap(), [vec![install, reset.clone()], vec![reset]]);
    assert!(clock.elapsed() >= Duration::from_secs(150));
}
