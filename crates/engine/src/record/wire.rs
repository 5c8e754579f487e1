//! How a record is written as a line and read back: one JSON object with its keys in a fixed order.

use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, VariantAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Event, RECORD_BYTES_MAX, RECORD_VERSION, Record};

/// Why a line is not a record that this version can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It was written by a later version.
    #[error("the record has version {found}, and this program reads up to {RECORD_VERSION}")]
    Newer {
        /// The version in the line.
        found: u64,
    },
    /// It was written by a later version.
    #[error("the record is of kind `{kind}`, which this program does not know")]
    UnknownKind {
        /// The kind in the line.
        kind: String,
    },
    /// It is not a record.
    #[error("the line is not a record: {0}")]
    Malformed(String),
    /// It does not fit into a line.
    #[error("a record of kind `{kind}` would take {bytes} bytes, and {RECORD_BYTES_MAX} are allowed")]
    TooLong {
        /// Its kind.
        kind: &'static str,
        /// Its length with the newline.
        bytes: usize,
    },
}

impl Record {
    /// The line without its newline.
    pub fn to_line(&self) -> Result<Vec<u8>, RecordError> {
        let line = serde_json::to_vec(self).map_err(|error| RecordError::Malformed(error.to_string()))?;
        if line.len() + 1 > RECORD_BYTES_MAX {
            return Err(RecordError::TooLong { kind: self.event.kind(), bytes: line.len() + 1 });
        }
        Ok(line)
    }

    /// Reads a line without its newline.
    pub fn from_line(line: &[u8]) -> Result<Self, RecordError> {
        serde_json::from_slice(line).map_err(|error| explain(line, &error))
    }
}

/// Finds out whether a line that could not be read comes from a later version.
fn explain(line: &[u8], error: &serde_json::Error) -> RecordError {
    #[derive(Deserialize)]
    struct Peek {
        v: u64,
        kind: String,
    }
    match serde_json::from_slice::<Peek>(line) {
        Ok(peek) if peek.v > u64::from(RECORD_VERSION) => RecordError::Newer { found: peek.v },
        Ok(peek) if !KINDS.contains(&peek.kind.as_str()) => RecordError::UnknownKind { kind: peek.kind },
        _ => RecordError::Malformed(error.to_string()),
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_struct("Record", 10)?;
        line.serialize_field("v", &self.v)?;
        line.serialize_field("seq", &self.seq)?;
        line.serialize_field("at", &self.at)?;
        line.serialize_field("boot", &self.boot)?;
        line.serialize_field("mono_ms", &self.mono_ms)?;
        line.serialize_field("run", &self.run)?;
        line.serialize_field("claim", &self.claim)?;
        line.serialize_field("prev", &self.prev)?;
        line.serialize_field("kind", self.event.kind())?;
        line.serialize_field("data", &Data(&self.event))?;
        line.end()
    }
}

/// The contents of an event without its kind.
struct Data<'a>(&'a Event);

macro_rules! kinds {
    ($($kind:ident { $($field:ident),* $(,)? })*) => {
        /// Every kind that this version knows.
        const KINDS: &[&str] = &["RunOpened", $(stringify!($kind)),*];

        impl Event {
            /// The kind's name, as written.
            pub fn kind(&self) -> &'static str {
                match self {
                    Event::RunOpened(_) => "RunOpened",
                    $(Event::$kind { .. } => stringify!($kind),)*
                }
            }
        }

        impl Serialize for Data<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.0 {
                    Event::RunOpened(opened) => opened.serialize(serializer),
                    $(Event::$kind { $($field),* } => {
                        let fields: &[&str] = &[$(stringify!($field)),*];
                        let mut data = serializer.serialize_struct(stringify!($kind), fields.len())?;
                        $(data.serialize_field(stringify!($field), $field)?;)*
                        data.end()
                    })*
                }
            }
        }
    };
}

kinds! {
    SourceChunk { source, index, of, text }
    PlanChunk { index, of, text }
    ClaimTaken { number, holder }
    EngineStarted { pid, machine, version, speed, gap_ms }
    PhaseEntered { phase }
    PhaseLeft { phase }
    AttemptStarted { instance, attempt }
    Probed { instance, attempt, verdict, why }
    ApplyStarted { instance, attempt, unit, inputs }
    ApplyEnded { instance, attempt, applied }
    Settled { instance, attempt, facts }
    AttemptFailed { instance, attempt, failure, output }
    RetryScheduled { instance, attempt, at, by }
    Skipped { instance, why, by }
    Waived { guard, reason, who }
    GateOpened { instance, show }
    GateDecided { instance, approved, who, reason }
    CommandReceived { id, command }
    RollbackOffered { show }
    RollbackDecided { approved, who, reason }
    RollbackBegan { run }
    Paused { why }
    Continued { why }
    EngineStopped { why }
    RunClosed { verdict, why }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor)
    }
}

struct RecordVisitor;

/// The fields of a record as they are read, `kind` before `data`.
#[derive(Default)]
struct Fields {
    v: Option<u32>,
    seq: Option<u64>,
    at: Option<jiff::Timestamp>,
    boot: Option<String>,
    mono_ms: Option<u64>,
    run: Option<crate::id::RunId>,
    claim: Option<u64>,
    prev: Option<String>,
    kind: Option<String>,
    event: Option<Event>,
}

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record of the journal")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match key.as_ref() {
                "v" => fields.v = Some(version(map.next_value()?)?),
                "seq" => fields.seq = Some(map.next_value()?),
                "at" => fields.at = Some(map.next_value()?),
                "boot" => fields.boot = Some(map.next_value()?),
                "mono_ms" => fields.mono_ms = Some(map.next_value()?),
                "run" => fields.run = Some(map.next_value()?),
                "claim" => fields.claim = Some(map.next_value()?),
                "prev" => fields.prev = Some(map.next_value()?),
                "kind" => fields.kind = Some(map.next_value()?),
                "data" => {
                    let kind =
                        fields.kind.as_deref().ok_or_else(|| de::Error::custom("`data` stands before `kind`"))?;
                    fields.event = Some(map.next_value_seed(EventSeed(kind))?);
                }
                _ => {
                    map.next_value::<de::IgnoredAny>()?;
                }
            }
        }
        let missing = |name: &'static str| move || de::Error::missing_field(name);
        Ok(Record {
            v: fields.v.ok_or_else(missing("v"))?,
            seq: fields.seq.ok_or_else(missing("seq"))?,
            at: fields.at.ok_or_else(missing("at"))?,
            boot: fields.boot.ok_or_else(missing("boot"))?,
            mono_ms: fields.mono_ms.ok_or_else(missing("mono_ms"))?,
            run: fields.run.ok_or_else(missing("run"))?,
            claim: fields.claim.ok_or_else(missing("claim"))?,
            prev: fields.prev.ok_or_else(missing("prev"))?,
            event: fields.event.ok_or_else(missing("data"))?,
        })
    }
}

fn version<E: de::Error>(found: u32) -> Result<u32, E> {
    if found > RECORD_VERSION {
        return Err(E::custom(RecordError::Newer { found: found.into() }));
    }
    Ok(found)
}

/// Reads `data` as the event that `kind` names.
struct EventSeed<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for EventSeed<'_> {
    type Value = Event;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Event, D::Error> {
        Event::deserialize(KindAndData { kind: self.0, data: deserializer })
    }
}

/// Presents a kind and its data to the derived `Deserialize` of [`Event`] as a variant and its contents.
struct KindAndData<'a, D> {
    kind: &'a str,
    data: D,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for KindAndData<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, D: Deserializer<'de>> EnumAccess<'de> for KindAndData<'_, D> {
    type Error = D::Error;
    type Variant = Contents<D>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Contents<D>), D::Error> {
        let kind = IntoDeserializer::<D::Error>::into_deserializer(self.kind);
        Ok((seed.deserialize(kind)?, Contents(self.data)))
    }
}

struct Contents<D>(D);

impl<'de, D: Deserializer<'de>> VariantAccess<'de> for Contents<D> {
    type Error = D::Error;

    fn unit_variant(self) -> Result<(), D::Error> {
        <()>::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, D::Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct("Event", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSED: &str = r#"{"v":1,"seq":17,"at":"2026-11-22T03:12:00Z","boot":"b","mono_ms":5,"run":"261122-0312-k7q2","claim":8,"prev":"ab","kind":"Paused","data":{"why":"lunch"}}"#;

    #[test]
    fn a_line_has_its_keys_in_the_promised_order_and_reads_back() {
        let record = Record::from_line(PAUSED.as_bytes()).unwrap();
        assert_eq!(record.event, Event::Paused { why: "lunch".into() });
        assert_eq!(String::from_utf8(record.to_line().unwrap()).unwrap(), PAUSED);
    }

    #[test]
    fn unknown_fields_are_ignored_wherever_they_stand() {
        let line = PAUSED.replace(r#""v":1"#, r#""v":1,"new":{"a":[1]}"#).replace(r#""why""#, r#""new":3,"why""#);
        assert_eq!(Record::from_line(line.as_bytes()).unwrap(), Record::from_line(PAUSED.as_bytes()).unwrap());
    }

    #[test]
    fn a_later_version_and_an_unknown_kind_are_refused_as_such() {
        let newer = PAUSED.replace(r#""v":1"#, r#""v":2"#);
        assert_eq!(Record::from_line(newer.as_bytes()), Err(RecordError::Newer { found: 2 }));
        let unknown = PAUSED.replace("Paused", "Teleported");
        let expected = RecordError::UnknownKind { kind: "Teleported".into() };
        assert_eq!(Record::from_line(unknown.as_bytes()), Err(expected));
        assert!(matches!(Record::from_line(b"{}"), Err(RecordError::Malformed(_))));
    }

    #[test]
    fn a_record_that_does_not_fit_into_a_line_is_refused_when_written() {
        let mut record = Record::from_line(PAUSED.as_bytes()).unwrap();
        record.event = Event::Paused { why: "x".repeat(RECORD_BYTES_MAX) };
        assert!(matches!(record.to_line(), Err(RecordError::TooLong { kind: "Paused", .. })));
    }
}
