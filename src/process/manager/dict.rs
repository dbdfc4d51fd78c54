#![forbid(unsafe_code)]
//! The handle of a dictionary in a manager.

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

/// A dictionary in a [`Manager`](super::Manager), shared by processes.
///
/// Processes, threads and coroutines can use it concurrently.
///
/// Each operation is atomic; [`update`](Self::update) makes a read and a write atomic.
///
/// A handle is the address of the dictionary and keeps no connection open. It can be cloned, used in a
/// forked child, and sent to other processes of this user as part of an argument or a result. Each
/// operation uses a connection; each thread keeps up to four idle ones.
///
/// The manager does not know the types. Two keys are equal if their encodings are: do not use keys that
/// contain a `HashMap`, whose order varies. A key can be given in a borrowed form, such as `&str` for
/// `String`, if that form has the same encoding. The dictionary is ordered by insertion; replacing the
/// value of a key keeps its position.
///
/// Values are copied in both directions: to change a value, insert it again.
///
/// # Errors
///
/// Each operation waits for the manager's answer. These errors are common to all operations:
///
/// - [`NotConnected`](io::ErrorKind::NotConnected): the manager has ended;
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): a key or value cannot be encoded, or the request
///   exceeds 4 GiB. Nothing was done;
/// - [`InvalidData`](io::ErrorKind::InvalidData): the stored key or value is of another type;
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): the manager belongs to another user;
/// - an error of the kernel, if no connection can be made. Nothing was done.
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

    /// Returns the number of keys.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// Has no effect.
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
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// Has no effect.
    pub fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Removes all keys.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The keys may have been removed or not.
    pub fn clear(&self) -> io::Result<()> {
        self.request(Operation::Clear)
    }
}

impl<K, V> Dict<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// Sets the value of a key, and returns the previous value, if there was one.
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
    /// Those of [all operations](Self#errors). After `InvalidData` the value has been set.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The value may have been set or not.
    pub fn insert<Q>(&self, key: &Q, value: &V) -> io::Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let (key, value) = (Bytes::encode(key)?, Bytes::encode(value)?);
        decode_if_any(self.request(Operation::Insert(key, value))?)
    }

    /// Returns the value of a key, if there is one.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// Has no effect.
    pub fn get<Q>(&self, key: &Q) -> io::Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        decode_if_any(self.request(Operation::Get(Bytes::encode(key)?))?)
    }

    /// Removes a key, and returns its value, if there was one.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors). After `InvalidData` the key has been removed.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The key may have been removed or not.
    pub fn remove<Q>(&self, key: &Q) -> io::Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        decode_if_any(self.request(Operation::Remove(Bytes::encode(key)?))?)
    }

    /// Whether there is a value for a key.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// Has no effect.
    pub fn contains_key<Q>(&self, key: &Q) -> io::Result<bool>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.request(Operation::ContainsKey(Bytes::encode(key)?))
    }

    /// Returns all keys, in the order of insertion.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors). If the keys exceed 4 GiB in total.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// Has no effect.
    pub fn keys(&self) -> io::Result<Vec<K>> {
        let keys: Vec<Bytes> = self.request(Operation::Keys)?;
        keys.iter().map(Bytes::decode).collect()
    }

    /// Returns all values, in the order in which their keys were inserted.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors). If the values exceed 4 GiB in total.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// Has no effect.
    pub fn values(&self) -> io::Result<Vec<V>> {
        let values: Vec<Bytes> = self.request(Operation::Values)?;
        values.iter().map(Bytes::decode).collect()
    }

    /// Returns a snapshot of all keys with their values, in the order of insertion.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors). If the keys and values exceed 4 GiB in total.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// Has no effect.
    pub fn items(&self) -> io::Result<Vec<(K, V)>> {
        let items: Vec<(Bytes, Bytes)> = self.request(Operation::Items)?;
        items.iter().map(|(key, value)| Ok((key.decode()?, value.decode()?))).collect()
    }

    /// Sets the values of several keys, in one atomic operation.
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
    /// Those of [all operations](Self#errors). No value was set then.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// All values may have been set, or none.
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

    /// Returns the value of a key, after setting it to `value` if there was none.
    ///
    /// Like `setdefault` in Python.
    ///
    /// # Errors
    ///
    /// Those of [all operations](Self#errors).
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The value may have been set or not.
    pub fn get_or_insert<Q>(&self, key: &Q, value: &V) -> io::Result<V>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let (key, value) = (Bytes::encode(key)?, Bytes::encode(value)?);
        self.request::<Bytes>(Operation::GetOrInsert(key, value))?.decode()
    }

    /// Sets the value of a key to `new` if it is `current`.
    ///
    /// `None` stands for a missing key.
    ///
    /// Otherwise nothing changes, and the actual value is returned as the inner error. Two values are equal
    /// if their encodings are.
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
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The value may have been set or not.
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

    /// Replaces the value of a key with the result of `change`, and returns the new value.
    ///
    /// `None` stands for a missing key, both as the argument and as the result.
    ///
    /// If another user of the dictionary changes the value in the meantime, `change` is called again with
    /// the new value. So it may be called several times, and no other change is lost. It may wait, and may
    /// use this dictionary.
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
    /// If `change` panics. Unwinds if a kill, a timeout or another panic is raised in the current coroutine
    /// while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The value may have been replaced or not.
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

/// Makes another handle of the same dictionary.
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
