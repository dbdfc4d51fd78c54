#![forbid(unsafe_code)]
//! An encoded value. Its users know its type; the manager that stores it does not.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::type_name;
use std::fmt;
use std::io;
use std::rc::Rc;

/// Two values are equal if their encodings are.
///
/// Cloning makes another reference. Serialized as one block: serde would otherwise process each byte
/// separately.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bytes(Rc<[u8]>);

impl Bytes {
    /// # Errors
    ///
    /// `InvalidInput` if `value` cannot be encoded.
    pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> io::Result<Self> {
        match postcard::to_stdvec(value) {
            Ok(bytes) => Ok(Bytes(bytes.into())),
            Err(error) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} cannot be encoded: {error}", type_name::<T>()),
            )),
        }
    }

    /// # Errors
    ///
    /// `InvalidData` if these are not the bytes of exactly one `T`.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> io::Result<T> {
        let cannot = |why: &dyn fmt::Display| {
            let message = format!("the value is not of type {}: {why}", type_name::<T>());
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        };
        match postcard::take_from_bytes(&self.0) {
            Ok((value, [])) => Ok(value),
            Ok((_, left)) => cannot(&format_args!("{} bytes are left", left.len())),
            Err(error) => cannot(&error),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&*self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::deserialize::<&[u8], D>(deserializer).map(|bytes| Bytes(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_encoding_and_sending() {
        let bytes = Bytes::encode(&("text", 7_u64)).unwrap();
        let sent: Bytes = postcard::from_bytes(&postcard::to_stdvec(&bytes).unwrap()).unwrap();
        assert_eq!(sent, bytes);
        assert_eq!(sent.decode::<(String, u64)>().unwrap(), ("text".to_owned(), 7));
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let text = Bytes::encode("text").unwrap();
        // Bytes are left over.
        let error = text.decode::<u8>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("u8"), "{error}");
        // There are too few bytes.
        let error = text.decode::<[u8; 9]>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
