#![forbid(unsafe_code)]
//! A value that was encoded. Its type is known to whoever uses it, and not to whoever keeps it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::type_name;
use std::fmt;
use std::io;
use std::rc::Rc;

/// Two are equal if their bytes are. A clone is a further reference. They travel as one block: serde would
/// have each byte of a list travel by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bytes(Rc<[u8]>);

impl Bytes {
    /// # Errors
    ///
    /// `InvalidInput`.
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
    /// `InvalidData` if it is no `T`, or more than one.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> io::Result<T> {
        let cannot = |why: &dyn fmt::Display| {
            let message = format!("the value is no {}: {why}", type_name::<T>());
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
    fn there_and_back() {
        let bytes = Bytes::encode(&("text", 7_u64)).unwrap();
        let sent: Bytes = postcard::from_bytes(&postcard::to_stdvec(&bytes).unwrap()).unwrap();
        assert_eq!(sent, bytes);
        assert_eq!(sent.decode::<(String, u64)>().unwrap(), ("text".to_owned(), 7));
    }

    #[test]
    fn what_is_of_another_type() {
        let text = Bytes::encode("text").unwrap();
        // There are further bytes behind the first.
        let error = text.decode::<u8>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("u8"), "{error}");
        // There are not as many.
        let error = text.decode::<[u8; 9]>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
