#![forbid(unsafe_code)]
//! A dictionary of a manager, as those have it who use it.

use super::address::Address;
use super::bytes::Bytes;
use super::connection;
use super::protocol::{Exchanged, Operation, Request};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::marker::PhantomData;

/// A dictionary of a [`Manager`](super::Manager), which any number of processes, threads and coroutines use
/// at once. Each operation is atomic: [`update`](Self::update) makes further ones.
///
/// A handle says where the dictionary is, and holds nothing open: it can be cloned, taken along into a
/// child, and sent to other processes of this user, as part of an argument or a result. An operation uses a
/// connection, of which each thread keeps up to four for later.
///
/// The manager knows no types. Two keys are the same if they are encoded alike: do not use keys with a
/// `HashMap` in them, whose order changes. A key can be borrowed, as a `&str` for a `String`, if the borrowed
/// form is encoded alike. The order is that of insertion, and a key whose value is replaced keeps its place.
///
/// What is stored is a copy, and what is got is a copy of that: to change a value is to insert it anew.
///
/// # Errors
///
/// An operation waits for the manager's answer. All have these errors in common:
///
/// - [`NotConnected`](io::ErrorKind::NotConnected): the manager has ended;
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): something cannot be encoded or sent, as it is more than
///   4 GiB at once. Nothing was done;
/// - [`InvalidData`](io::ErrorKind::InvalidData): what was stored is of another type;
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): the manager is another user's;
/// - what the kernel says if it makes no connection. Nothing was done.
///
/// # Examples
///
/// ```
/// use switchgrass::process::{Dict, Manager, ProcessPool};
///
/// fn count((words, counts): (String, Dict<String, u32>)) {
///     for word in words.split(' ') {
///         counts.update(word, |count| Some(count.unwrap_or(0) + 1)).unwrap();
///     }
/// }
///
/// let manager = Manager::start()?;
/// let counts = manager.dict()?;
/// let lines = ["a rose is a rose", "is a rose"].map(|line| (line.to_owned(), counts.clone()));
/// ProcessPool::new(2)?.map(count, lines)?;
/// assert_eq!(["a", "rose", "is"].map(|word| counts.get(word).unwrap()), [Some(3), Some(3), Some(2)]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Dict<K, V> {
    address: Address,
    number: u64,
    #[serde(skip)]
    _types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Dict<K, V> {
    pub(super) fn new(address: Address, number: u64) -> Self {
        Dict { address, number, _types: PhantomData }
    }

    fn request<T: DeserializeOwned>(&self, operation: Operation) -> io::Result<T> {
        connection::request(&self.address, &Request::Do(self.number, operation))
    }

    /// How many keys there are.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    pub fn len(&self) -> io::Result<usize> {
        let len: u64 = self.request(Operation::Len)?;
        Ok(len as usize)
    }

    /// Whether there are no keys.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// As [`Dict::len`].
    ///
    /// # Switching
    ///
    /// As [`Dict::len`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    pub fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Takes all keys out.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// As [`Dict::len`].
    ///
    /// # Switching
    ///
    /// As [`Dict::len`].
    ///
    /// # Cancellation
    ///
    /// They may have been taken out or not.
    pub fn clear(&self) -> io::Result<()> {
        self.request(Operation::Clear)
    }
}

impl<K, V> Dict<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// Sets the value of a key. The value that it had, if it had one.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::Manager;
    ///
    /// let manager = Manager::start()?;
    /// let dict = manager.dict::<String, Vec<u8>>()?;
    /// assert_eq!(dict.insert("key", &vec![1])?, None);
    /// assert_eq!(dict.insert("key", &vec![2, 3])?, Some(vec![1]));
    /// assert_eq!(dict.get("key")?, Some(vec![2, 3]));
    /// assert_eq!(dict.remove("key")?, Some(vec![2, 3]));
    /// assert!(dict.is_empty()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors). After `InvalidData` it was done.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It may have been done or not.
    pub fn insert<Q>(&self, key: &Q, value: &V) -> io::Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let (key, value) = (Bytes::encode(key)?, Bytes::encode(value)?);
        decode_if_any(self.request(Operation::Insert(key, value))?)
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// As [`Dict::insert`].
    ///
    /// # Switching
    ///
    /// As [`Dict::insert`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    pub fn get<Q>(&self, key: &Q) -> io::Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        decode_if_any(self.request(Operation::Get(Bytes::encode(key)?))?)
    }

    /// Takes a key out. The value that it had, if it was there.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors). After `InvalidData` it was done.
    ///
    /// # Panics
    ///
    /// As [`Dict::insert`].
    ///
    /// # Switching
    ///
    /// As [`Dict::insert`].
    ///
    /// # Cancellation
    ///
    /// It may have been done or not.
    pub fn remove<Q>(&self, key: &Q) -> io::Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        decode_if_any(self.request(Operation::Remove(Bytes::encode(key)?))?)
    }

    /// Whether a key is there.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// As [`Dict::insert`].
    ///
    /// # Switching
    ///
    /// As [`Dict::insert`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    pub fn contains_key<Q>(&self, key: &Q) -> io::Result<bool>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.request(Operation::ContainsKey(Bytes::encode(key)?))
    }

    /// All keys, in the order of insertion.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors). If together they are more than 4 GiB.
    ///
    /// # Panics
    ///
    /// As [`Dict::insert`].
    ///
    /// # Switching
    ///
    /// As [`Dict::insert`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    pub fn keys(&self) -> io::Result<Vec<K>> {
        let keys: Vec<Bytes> = self.request(Operation::Keys)?;
        keys.iter().map(Bytes::decode).collect()
    }

    /// All values, in the order in which their keys were inserted.
    ///
    /// # Errors
    ///
    /// As [`Dict::keys`].
    ///
    /// # Panics
    ///
    /// As [`Dict::insert`].
    ///
    /// # Switching
    ///
    /// As [`Dict::insert`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    pub fn values(&self) -> io::Result<Vec<V>> {
        let values: Vec<Bytes> = self.request(Operation::Values)?;
        values.iter().map(Bytes::decode).collect()
    }

    /// All keys with their values, as they were at one moment, in the order of insertion.
    ///
    /// # Errors
    ///
    /// As [`Dict::keys`].
    ///
    /// # Panics
    ///
    /// As [`Dict::insert`].
    ///
    /// # Switching
    ///
    /// As [`Dict::insert`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    pub fn items(&self) -> io::Result<Vec<(K, V)>> {
        let items: Vec<(Bytes, Bytes)> = self.request(Operation::Items)?;
        items.iter().map(|(key, value)| Ok((key.decode()?, value.decode()?))).collect()
    }

    /// Sets the values of several keys, in one message, and so all at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use switchgrass::process::Manager;
    ///
    /// let map = BTreeMap::from([(1, 'a'), (2, 'b')]);
    /// let manager = Manager::start()?;
    /// let dict = manager.dict::<i32, char>()?;
    /// dict.extend(&map)?;
    /// dict.extend([(3, 'c')])?;
    /// assert_eq!((dict.keys()?, dict.values()?), (vec![1, 2, 3], vec!['a', 'b', 'c']));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors). Then none was set.
    ///
    /// # Panics
    ///
    /// As [`Dict::insert`].
    ///
    /// # Switching
    ///
    /// As [`Dict::insert`].
    ///
    /// # Cancellation
    ///
    /// It may have been done, of all, or of none.
    pub fn extend(
        &self,
        items: impl IntoIterator<Item = (impl Borrow<K>, impl Borrow<V>)>,
    ) -> io::Result<()> {
        let encode = |(key, value): (_, _)| {
            let (key, value) = (Borrow::<K>::borrow(&key), Borrow::<V>::borrow(&value));
            Ok((Bytes::encode(key)?, Bytes::encode(value)?))
        };
        let items: io::Result<Vec<_>> = items.into_iter().map(encode).collect();
        self.request(Operation::Extend(items?))
    }

    /// The value of a key, which is set to this one if there is none. As `setdefault` of Python's.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// As [`Dict::insert`].
    ///
    /// # Switching
    ///
    /// As [`Dict::insert`].
    ///
    /// # Cancellation
    ///
    /// It may have been set or not.
    pub fn get_or_insert<Q>(&self, key: &Q, value: &V) -> io::Result<V>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let (key, value) = (Bytes::encode(key)?, Bytes::encode(value)?);
        self.request::<Bytes>(Operation::GetOrInsert(key, value))?.decode()
    }

    /// Sets the value of a key to `new` if it is `current`, where `None` stands for a key that is not there.
    /// Otherwise nothing happens, and what is there comes back as the inner error. Two values are the same if
    /// they are encoded alike.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::Manager;
    ///
    /// let manager = Manager::start()?;
    /// let owner = manager.dict::<String, u32>()?;
    /// assert_eq!(owner.compare_exchange("door", None, Some(&7))?, Ok(()));
    /// assert_eq!(owner.compare_exchange("door", None, Some(&8))?, Err(Some(7)));
    /// assert_eq!(owner.compare_exchange("door", Some(&7), None)?, Ok(()));
    /// assert!(!owner.contains_key("door")?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// As [`Dict::insert`].
    ///
    /// # Switching
    ///
    /// As [`Dict::insert`].
    ///
    /// # Cancellation
    ///
    /// It may have been done or not.
    pub fn compare_exchange<Q>(
        &self,
        key: &Q,
        current: Option<&V>,
        new: Option<&V>,
    ) -> io::Result<Result<(), Option<V>>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let (key, current, new) =
            (Bytes::encode(key)?, encode_if_any(current)?, encode_if_any(new)?);
        let exchanged: Exchanged =
            self.request(Operation::CompareExchange { key, current, new })?;
        match exchanged {
            Ok(()) => Ok(Ok(())),
            Err(there) => decode_if_any(there).map(Err),
        }
    }

    /// Changes the value of a key by what `change` makes of it, where `None` stands for a key that is not
    /// there, before and afterwards. The new value.
    ///
    /// If somebody else changes it meanwhile, `change` is called again, with what is there then. So it may be
    /// called several times, and nothing of what others do is lost. It may wait, and use this dictionary.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::Manager;
    ///
    /// let manager = Manager::start()?;
    /// let stock = manager.dict::<String, u32>()?;
    /// stock.insert("apples", &2)?;
    /// let take_one = |n: Option<u32>| n.and_then(|n| n.checked_sub(1)).filter(|n| *n > 0);
    /// assert_eq!(stock.update("apples", take_one)?, Some(1));
    /// assert_eq!(stock.update("apples", take_one)?, None);
    /// assert!(!stock.contains_key("apples")?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// If `change` does. With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It may have been done or not.
    pub fn update<Q>(
        &self,
        key: &Q,
        mut change: impl FnMut(Option<V>) -> Option<V>,
    ) -> io::Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let key = Bytes::encode(key)?;
        let mut there: Option<Bytes> = self.request(Operation::Get(key.clone()))?;
        loop {
            let value = change(decode_if_any(there.clone())?);
            let new = encode_if_any(value.as_ref())?;
            let (key, current) = (key.clone(), there);
            match self.request(Operation::CompareExchange { key, current, new })? {
                Exchanged::Ok(()) => return Ok(value),
                Exchanged::Err(instead) => there = instead,
            }
        }
    }
}

fn encode_if_any<V: Serialize>(value: Option<&V>) -> io::Result<Option<Bytes>> {
    value.map(Bytes::encode).transpose()
}

fn decode_if_any<V: DeserializeOwned>(value: Option<Bytes>) -> io::Result<Option<V>> {
    value.map(|value| value.decode()).transpose()
}

/// A further handle of the same.
impl<K, V> Clone for Dict<K, V> {
    fn clone(&self) -> Self {
        Self::new(self.address, self.number)
    }
}

impl<K, V> fmt::Debug for Dict<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dict")
            .field("manager", &format_args!("{}", self.address))
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
