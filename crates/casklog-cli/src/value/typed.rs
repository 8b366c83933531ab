//! Values that were typed as JSON, as MessagePack.

use std::collections::HashSet;
use std::fmt;

use rmpv::Value;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::failure::{Failure, Result};
use crate::key::from_hex;

/// Reads JSON and the forms with `$` that the module `value` shows.
pub(crate) fn parse_json(text: &str) -> Result<Value> {
    let parsed = serde_json::from_str::<Typed>(text);
    parsed.map(|typed| typed.0).map_err(|error| {
        Failure::Usage(format!(
            "the value is not JSON: {error}; give text with --text, or quotes within quotes: '\"...\"'"
        ))
    })
}

struct Typed(Value);

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Json).map(Typed)
    }
}

struct Json;

impl<'de> Visitor<'de> for Json {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Value, E> {
        Ok(is.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Typed(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (mut map, mut seen) = (Vec::new(), HashSet::new());
        while let Some((key, Typed(value))) = entries.next_entry::<String, Typed>()? {
            if key.starts_with('$') {
                let is_alone = map.is_empty() && entries.next_key::<String>()?.is_none();
                let value = if is_alone { special(&key, value) } else { None };
                return value.ok_or_else(|| {
                    A::Error::custom(format!(
                        "{key:?} stands alone in its object and is $bin, $ext, $float or $map, as cat shows them"
                    ))
                });
            }
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("{key:?} stands twice in one object")));
            }
            map.push((key.into(), value));
        }
        Ok(Value::Map(map))
    }
}

/// What an object with one key that begins with `$` stands for.
fn special(tag: &str, value: Value) -> Option<Value> {
    let bytes = |value: &Value| from_hex(value.as_str()?.as_bytes());
    match (tag, value) {
        ("$bin", value) => bytes(&value).map(Value::Binary),
        ("$ext", Value::Array(parts)) => match &*parts {
            [kind, digits] => Some(Value::Ext(i8::try_from(kind.as_i64()?).ok()?, bytes(digits)?)),
            _ => None,
        },
        ("$float", value) => Some(Value::F64(match value.as_str()? {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => return None,
        })),
        ("$map", Value::Array(entries)) => {
            let pair = |entry: Value| match entry {
                Value::Array(pair) => <[Value; 2]>::try_from(pair).ok().map(|[key, value]| (key, value)),
                _ => None,
            };
            entries.into_iter().map(pair).collect::<Option<Vec<_>>>().map(Value::Map)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed() {
        for json in [
            "null",
            "true",
            "[1,-1,18446744073709551615,0.5]",
            r#"{"b":"text","a":{"$bin":"00ff"}}"#,
            r#"{"$ext":[-1,"00000001"]}"#,
            r#"{"$map":[[1,"a"],[{"$bin":"6b"},{"$map":[]}]]}"#,
            r#"{"$float":"NaN"}"#,
            r#"{"$float":"-Infinity"}"#,
        ] {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &parse_json(json).unwrap()).unwrap();
            let shown = serde_json::to_string(&crate::value::Json(&bytes)).unwrap();
            // An empty map can be an object.
            assert_eq!(shown.replace("{}", r#"{"$map":[]}"#), json);
        }
    }

    #[test]
    fn what_would_be_lost_or_guessed_is_refused() {
        for json in [
            "hello",
            "",
            "1 2",
            r#"{"a":1,"a":2}"#,
            r#"{"$bin":"0"}"#,
            r#"{"$bin":7}"#,
            r#"{"$bin":"00","more":1}"#,
            r#"{"more":1,"$bin":"00"}"#,
            r#"{"$ext":[200,"00"]}"#,
            r#"{"$float":"1"}"#,
            r#"{"$map":[[1]]}"#,
            r#"{"$str":"ff"}"#,
            r#"{"$what":1}"#,
        ] {
            assert!(matches!(parse_json(json), Err(Failure::Usage(_))), "{json}");
        }
    }
}
