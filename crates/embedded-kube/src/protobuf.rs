//! Bodies in protobuf, which kubectl 1.32 and later sends for the kinds it knows itself
//! (`kubectl create`, `auth can-i`, `create token`); the answers it takes in JSON.
//!
//! The messages that are known stand in `messages`. A field that is not there is refused by its
//! number, never dropped.

mod messages;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::clock;
use crate::failure::Failure;
use messages::{Field, Kind};

/// The object in a body of [`CONTENT_TYPE`].
///
/// # Errors
/// 400 for what is no such body, 415 for a kind or a field that is not known here.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, Failure> {
    let envelope = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| malformed("the prefix is missing"))?;
    let envelope = message(messages::UNKNOWN, envelope)?;
    let text = |pointer: [&str; 2]| {
        let value = envelope.get(pointer[0]).and_then(|it| it.get(pointer[1]));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (kind, api_version) = (text(["typeMeta", "kind"]), text(["typeMeta", "apiVersion"]));
    let fields = messages::of_kind(&api_version, &kind).ok_or_else(|| {
        Failure::unsupported_protobuf(&format!("kind {kind:?} in version {api_version:?}"))
    })?;
    let raw = envelope.get("raw").and_then(Value::as_str);
    let raw = BASE64_STANDARD
        .decode(raw.unwrap_or_default())
        .expect("encoded by the line that read it");
    let mut object = message(fields, &raw)?;
    object.insert("kind".to_owned(), kind.into());
    object.insert("apiVersion".to_owned(), api_version.into());
    Ok(Value::Object(object))
}

/// What a value is on the wire (protobuf.dev/programming-guides/encoding).
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn message(fields: &[Field], mut bytes: &[u8]) -> Result<Map<String, Value>, Failure> {
    let mut object = Map::new();
    while !bytes.is_empty() {
        let (number, wire) = next(&mut bytes)?;
        let field = fields
            .iter()
            .find(|field| field.number == number)
            .ok_or_else(|| {
                let known = fields.first().map_or("", |field| field.name);
                Failure::unsupported_protobuf(&format!(
                    "field {number} of the message that begins with {known:?}"
                ))
            })?;
        let value = value(field.kind, &wire)?;
        let name = field.name.to_owned();
        if field.repeated {
            let list = object
                .entry(name)
                .or_insert_with(|| Value::Array(Vec::new()));
            list.as_array_mut().expect("made a list").push(value);
        } else if let (Kind::Map(_), Value::Object(entry)) = (field.kind, &value) {
            let map = object
                .entry(name)
                .or_insert_with(|| Value::Object(Map::new()));
            let map = map.as_object_mut().expect("made a map");
            map.extend(entry.clone());
        } else if field.optional || !is_zero(&value) {
            object.insert(name, value);
        }
    }
    Ok(object)
}

fn value(kind: Kind, wire: &Wire<'_>) -> Result<Value, Failure> {
    Ok(match (kind, wire) {
        (Kind::Text, Wire::Bytes(bytes)) => text(bytes)?.into(),
        (Kind::Bytes, Wire::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        // Negative numbers are sign-extended to 64 bits.
        (Kind::Number, Wire::Number(number)) => number.cast_signed().into(),
        (Kind::Bool, Wire::Number(number)) => (*number != 0).into(),
        (Kind::Message(fields), Wire::Bytes(bytes)) => Value::Object(message(fields, bytes)?),
        (Kind::Time { micro }, Wire::Bytes(bytes)) => time(bytes, micro)?,
        (Kind::Wrapped(fields), Wire::Bytes(bytes)) => {
            let inner = message(fields, bytes)?.into_iter().next();
            inner.map_or(Value::Null, |(_, value)| value)
        }
        (Kind::Json, Wire::Bytes(bytes)) => {
            let inner = message(messages::RAW, bytes)?;
            let raw = inner.get("Raw").and_then(Value::as_str).unwrap_or_default();
            let json = BASE64_STANDARD.decode(raw).unwrap_or_default();
            serde_json::from_slice(&json).unwrap_or_default()
        }
        (Kind::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Kind::Map(of), Wire::Bytes(bytes)) => entry(*of, bytes)?,
        (Kind::Ignored, Wire::Bytes(_)) => Value::Null,
        _ => return Err(malformed("a field has another wire type")),
    })
}

/// One entry of a map, which is a message of a key and a value.
fn entry(of: Kind, mut bytes: &[u8]) -> Result<Value, Failure> {
    let mut key = String::new();
    let mut found = match of {
        Kind::Text | Kind::Bytes => Value::from(""),
        _ => Value::Null,
    };
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => found = value(of, &wire)?,
            _ => return Err(malformed("a map has more than keys and values")),
        }
    }
    Ok(Value::Object(Map::from_iter([(key, found)])))
}

fn time(bytes: &[u8], micro: bool) -> Result<Value, Failure> {
    let parts = message(messages::TIME, bytes)?;
    if parts.is_empty() {
        return Ok(Value::Null);
    }
    let part = |name| parts.get(name).and_then(Value::as_i64).unwrap_or(0);
    let nanoseconds = i32::try_from(part("nanos")).unwrap_or(0);
    let time = Timestamp::new(part("seconds"), nanoseconds)
        .map_err(|_| malformed("a time is out of range"))?;
    Ok(if micro {
        clock::microseconds(time)
    } else {
        clock::seconds(time)
    }
    .into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Failure> {
    let mut parts = message(messages::INT_OR_STRING, bytes)?;
    let is_text = parts.get("type").is_some_and(|kind| kind == 1);
    let value = parts.remove(if is_text { "strVal" } else { "intVal" });
    Ok(value.unwrap_or_else(|| 0.into()))
}

/// A field that is not a pointer in Go is written even where it is empty, and JSON leaves it out.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn next<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Wire<'a>), Failure> {
    let tag = varint(bytes)?;
    let wire = match tag & 7 {
        0 => Wire::Number(varint(bytes)?),
        2 => {
            let length = usize::try_from(varint(bytes)?).unwrap_or(usize::MAX);
            let (value, rest) = bytes
                .split_at_checked(length)
                .ok_or_else(|| malformed("a field is longer than the body"))?;
            *bytes = rest;
            Wire::Bytes(value)
        }
        _ => return Err(malformed("no field of Kubernetes has this wire type")),
    };
    Ok((tag >> 3, wire))
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Failure> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes
            .split_first()
            .ok_or_else(|| malformed("a number is cut off"))?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(malformed("a number is too long"))
}

fn text(bytes: &[u8]) -> Result<String, Failure> {
    String::from_utf8(bytes.to_vec()).map_err(|_| malformed("a text is not UTF-8"))
}

fn malformed(why: &str) -> Failure {
    Failure::bad_request(format!("error decoding the body as protobuf: {why}"))
}

pub(crate) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Before the envelope, `k8s.io.apimachinery.pkg.runtime.Unknown`.
const MAGIC: &[u8] = b"k8s\0";

#[cfg(test)]
mod tests;
