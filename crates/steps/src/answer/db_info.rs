//! The supervisor's `/db/info`, which a host passes on as it came.

use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, de};

use super::Member;
use crate::render::decode_text;

/// Reads members from a list, or from base64 of what `/db/info` answered. An answer that cannot be understood is no
/// answer: nobody is known to be a member.
pub(super) fn members<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Member>, D::Error> {
    deserializer.deserialize_any(Members)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of members, or base64 of the answer of /db/info")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let bytes = decode_text(text).map_err(E::custom)?;
        let info: DbInfo = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(info.members.into_iter().map(Member::from).collect())
    }
}

#[derive(Default, Deserialize)]
struct DbInfo {
    #[serde(default)]
    members: Vec<DbMember>,
}

/// etcd's own form; it leaves out what is false or empty.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DbMember {
    #[serde(rename = "ID")]
    id: u64,
    name: String,
    is_learner: bool,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
}

impl From<DbMember> for Member {
    fn from(member: DbMember) -> Self {
        Self { name: member.name, learner: member.is_learner, peer_urls: member.peer_urls, id: member.id }
    }
}

#[cfg(test)]
mod tests {
    use crate::answer::Survey;
    use crate::render::encode_text;

    #[test]
    fn members_are_read_from_etcds_own_answer_and_from_our_list() {
        let info = r#"{"members":[{"ID":9,"name":"a-1","peerURLs":["https://10.0.0.1:2380"]},{"ID":1,"name":"b-2","isLearner":true}]}"#;
        let survey: Survey =
            serde_json::from_value(serde_json::json!({ "members": encode_text(info.as_bytes()) })).unwrap();
        assert_eq!(survey.members.len(), 2);
        assert!(!survey.members[0].learner && survey.members[1].learner);
        assert_eq!((survey.members[0].id, survey.members[1].id), (9, 1));
        assert_eq!(survey.members[0].peer_urls, ["https://10.0.0.1:2380"]);
        let again: Survey = serde_json::from_str(&serde_json::to_string(&survey).unwrap()).unwrap();
        assert_eq!(again.members, survey.members);
    }

    #[test]
    fn an_answer_that_is_not_etcds_names_no_member() {
        let survey: Survey =
            serde_json::from_value(serde_json::json!({ "members": encode_text(b"404 page") })).unwrap();
        assert!(survey.members.is_empty());
    }
}
