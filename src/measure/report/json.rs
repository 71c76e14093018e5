//! The parts of a report's JSON that serde cannot derive.

use serde::{Deserialize, Deserializer, Serializer};

use super::{Cell, Spread, digits};

/// Serialises a [`Cell::Number`] without its decimal places.
pub(super) fn value<S: Serializer>(value: &f64, _digits: &usize, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(*value)
}

/// Reads a number, or NaN from the null that stands for a value that is not finite.
pub(super) fn nullable<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Read {
            Text(String),
            Number(Option<f64>),
            Spread(Spread),
            Missing { missing: String },
        }
        Ok(match Read::deserialize(from)? {
            Read::Text(text) => Self::Text(text),
            Read::Number(number) => {
                let number = number.unwrap_or(f64::NAN);
                Self::Number(number, digits(number))
            }
            Read::Spread(spread) => Self::Spread(spread),
            Read::Missing { missing } => Self::Missing { missing },
        })
    }
}
