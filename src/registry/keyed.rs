use std::{borrow::Borrow, fmt, hash::Hash, sync::Arc};

use super::{Instance, RegistryEvent, rules::Origin, shared::Shared};
use crate::event::{Name, Subscription};

/// One instance for each key, such as a host or a tenant: see [`Registry::keyed`](super::Registry::keyed). A clone is the
/// same registry.
pub struct KeyedRegistry<K, P: Instance> {
    shared: Arc<Shared<K, P>>,
    name_of: Arc<dyn Fn(&K) -> Name + Send + Sync>,
}

impl<K, P> KeyedRegistry<K, P>
where
    K: Hash + Eq + Send + Sync + 'static,
    P: Instance,
{
    pub(super) fn new(shared: Arc<Shared<K, P>>, name_of: impl Fn(&K) -> Name + Send + Sync + 'static) -> Self {
        Self { shared, name_of: Arc::new(name_of) }
    }

    /// The instance of that key, made if there is none yet. Of threads that ask for it at once all get the same. Nothing
    /// is allocated for one that exists.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> P
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.shared.table.hash(key);
        match self.shared.ask(hash, key) {
            Some(instance) => instance,
            None => {
                let key = key.to_owned();
                let name = (self.name_of)(&key);
                self.shared.make(hash, key, name, &Origin::Name).0
            }
        }
    }

    /// The instance of that key, if there is one. Looking does not count as use.
    pub fn find<Q>(&self, key: &Q) -> Option<P>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shared.table.find(self.shared.table.hash(key), key, None)
    }

    /// Forgets the instance of that key and returns it. Whoever holds it may go on with it.
    pub fn remove<Q>(&self, key: &Q) -> Option<P>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shared.remove(key)
    }

    /// All instances, in no order.
    pub fn all(&self) -> Vec<P> {
        self.shared.table.all()
    }

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.shared.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets every instance that has been idle for too long, now, and returns how many those were. It is not needed:
    /// `get` does so, a few at a time.
    pub fn evict_idle(&self) -> usize {
        self.shared.evict_idle()
    }

    /// As [`Registry::on_event`](super::Registry::on_event), for the instances of this one.
    pub fn on_event(&self, listener: impl Fn(&RegistryEvent<P>) + Send + Sync + 'static) -> Subscription {
        self.shared.listeners.subscribe(listener)
    }
}

impl<K, P: Instance> Clone for KeyedRegistry<K, P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), name_of: Arc::clone(&self.name_of) }
    }
}

impl<K, P: Instance> fmt::Debug for KeyedRegistry<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRegistry")
            .field("kind", &P::KIND)
            .field("family", &self.shared.family)
            .finish_non_exhaustive()
    }
}
