//! The check of certificates: RKE2's own, by the days that they still last.

use rke2flow_engine::action::Failure;

use super::check::{Level, Row, Seen};
use super::evidence::Evidence;

const DAY_SECONDS: i64 = 24 * 3600;
/// A run may take hours, and a certificate that ends in it leaves a node that nobody can talk to.
const REFUSE_DAYS: i64 = 1;
/// A start renews what ends within 120 days; what is so near its end was not started for a long time.
const WARN_DAYS: i64 = 30;
/// No start renews an authority.
const AUTHORITY_REFUSE_DAYS: i64 = 30;
const AUTHORITY_WARN_DAYS: i64 = 365;

pub(super) const DATES: Row = Row {
    level: Level::Refuse,
    why: "a node whose certificate has ended talks to nobody; a start renews what ends within 120 days, but no authority",
    source: "docs.rke2.io/security/certificates",
    unwaivable: None,
    judge: |evidence| Box::pin(dates(evidence)),
};

async fn dates(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    let mut soonest: Option<(i64, String)> = None;
    for (host, survey, inspection) in evidence.inspections(&mut seen).await {
        if !inspection.certificates_unread.is_empty() {
            let what = format!("{}: nobody can tell the dates: {}", host.name, inspection.certificates_unread);
            seen.warn(what, format!("install openssl on {}", host.name));
        }
        for certificate in &inspection.certificates {
            let named = format!("{}: {}", host.name, certificate.file);
            if certificate.not_after == 0 {
                seen.warn(format!("{named} is no certificate that openssl can read"), "remove it, or rotate it");
                continue;
            }
            let days = (certificate.not_after - survey.epoch).div_euclid(DAY_SECONDS);
            if soonest.as_ref().is_none_or(|(least, _)| days < *least) {
                soonest = Some((days, named.clone()));
            }
            judge_days(&mut seen, &named, days, certificate.is_authority(), host.name.as_str());
        }
    }
    seen.well = match soonest {
        Some((days, named)) => format!("the next to end is {named}, in {days} days"),
        None => "no certificate is there yet".to_owned(),
    };
    Ok(seen)
}

fn judge_days(seen: &mut Seen, named: &str, days: i64, authority: bool, host: &str) {
    let (refuse, warn) =
        if authority { (AUTHORITY_REFUSE_DAYS, AUTHORITY_WARN_DAYS) } else { (REFUSE_DAYS, WARN_DAYS) };
    let what = match days {
        ..0 => format!("{named} has ended {} days ago", -days),
        0 => format!("{named} ends within a day"),
        _ => format!("{named} ends in {days} days"),
    };
    let fix = match authority {
        true => "`rke2 certificate rotate-ca`, before anything else".to_owned(),
        false => format!("restart RKE2 on {host} (it renews what ends within 120 days), or `rke2 certificate rotate`"),
    };
    if days < refuse {
        seen.refuse(what, fix);
    } else if days < warn {
        seen.warn(what, fix);
    }
}
