//! The instances by key, in shards, so that threads that ask for different keys seldom meet.
//!
//! Keys are hashed once and compared under a shard's lock; nothing else of the user's runs under it, and what is taken out
//! is returned, for its owner to drop.

use std::{
    borrow::Borrow,
    collections::{HashMap, hash_map},
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;

use super::{instance::Instance, rules::Origin};

/// How many instances one look for unused ones goes through.
pub(super) const LOOK: usize = 64;

/// No place.
const NONE: u32 = u32::MAX;

pub(super) struct Table<K, P: Instance> {
    hasher: RandomState,
    shards: Box<[RwLock<Shard<K, P>>]>,
    len: AtomicUsize,
    /// The shard that the next look goes through.
    turn: AtomicUsize,
}

struct Shard<K, P: Instance> {
    /// The first of the places whose keys have that hash.
    places: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    seats: Vec<Option<Seat<K, P>>>,
    free: Vec<u32>,
    /// Where the next look begins.
    hand: AtomicUsize,
}

/// What is kept of one instance.
pub(super) struct Seat<K, P: Instance> {
    hash: u64,
    /// The next place with the same hash.
    next: u32,
    pub(super) key: K,
    pub(super) instance: P,
    pub(super) origin: Origin<P::Config>,
    /// The settings it has.
    pub(super) made_from: Arc<P::Config>,
    /// When it was last asked for or seen in use, in nanoseconds.
    used: AtomicU64,
}

/// An instance that nobody held when it was looked at.
pub(super) struct Unused<P> {
    pub(super) hash: u64,
    pub(super) instance: P,
    pub(super) used: u64,
}

/// An instance and what its settings come from.
pub(super) struct Follower<P: Instance> {
    pub(super) hash: u64,
    pub(super) instance: P,
    pub(super) origin: Origin<P::Config>,
    pub(super) made_from: Arc<P::Config>,
}

impl<K: Hash + Eq, P: Instance> Table<K, P> {
    pub(super) fn new(max_instances: Option<usize>) -> Self {
        // A small table has one shard, so that of all its instances the one longest unused can be found.
        let shards = max_instances.map_or(16, |max| (max / 256).clamp(1, 16).next_power_of_two());
        Self {
            hasher: RandomState::new(),
            shards: (0..shards).map(|_| RwLock::new(Shard::new())).collect(),
            len: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Not by the lowest and not by the highest bits: those choose within the shard.
    fn shard(&self, hash: u64) -> &RwLock<Shard<K, P>> {
        &self.shards[(hash >> 40) as usize & (self.shards.len() - 1)]
    }

    /// The instance of that key, if there is one, and that it was used at `now`.
    #[inline]
    pub(super) fn find<Q>(&self, hash: u64, key: &Q, now: Option<u64>) -> Option<P>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = self.shard(hash).read();
        let seat = shard.seat(shard.place(hash, key)?)?;
        if let Some(now) = now {
            seat.used.store(now, Ordering::Relaxed);
        }
        Some(seat.instance.clone())
    }

    /// What `read` sees of the instance of that key.
    pub(super) fn look<Q, R>(&self, hash: u64, key: &Q, read: impl FnOnce(&Seat<K, P>) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = self.shard(hash).read();
        shard.seat(shard.place(hash, key)?).map(read)
    }

    /// Takes in an instance, or returns the one that is there already, with what was not needed.
    pub(super) fn insert(&self, seat: Seat<K, P>) -> Result<(), (P, Seat<K, P>)> {
        let mut shard = self.shard(seat.hash).write();
        if let Some(there) = shard.place(seat.hash, &seat.key).and_then(|place| shard.seat(place)) {
            return Err((there.instance.clone(), seat));
        }
        shard.insert(seat);
        self.len.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn remove<Q>(&self, hash: u64, key: &Q) -> Option<Seat<K, P>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut shard = self.shard(hash).write();
        let place = shard.place(hash, key)?;
        let seat = shard.remove(place);
        self.len.fetch_sub(usize::from(seat.is_some()), Ordering::Relaxed);
        seat
    }

    /// Puts an instance and its settings in the place of another.
    pub(super) fn replace<Q>(&self, hash: u64, key: &Q, mut new: P, config: Arc<P::Config>) -> Option<Gone<P>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut shard = self.shard(hash).write();
        let place = shard.place(hash, key)?;
        let seat = shard.seats[place as usize].as_mut()?;
        let mut origin = Origin::Own(Arc::clone(&config));
        let mut made_from = config;
        mem::swap(&mut seat.instance, &mut new);
        mem::swap(&mut seat.origin, &mut origin);
        mem::swap(&mut seat.made_from, &mut made_from);
        Some(Gone { instance: new, _rest: (origin, made_from) })
    }

    /// Says that an instance has other settings now, and returns those it had, unless it is gone.
    pub(super) fn settle(&self, hash: u64, instance: &P, config: Arc<P::Config>) -> Option<Arc<P::Config>> {
        let mut shard = self.shard(hash).write();
        let place = shard.place_of(hash, |seat| seat.instance.is(instance))?;
        let seat = shard.seats[place as usize].as_mut()?;
        Some(mem::replace(&mut seat.made_from, config))
    }

    pub(super) fn all(&self) -> Vec<P> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(shard.read().seats.iter().flatten().map(|seat| seat.instance.clone()));
        }
        all
    }

    /// The instances of one shard, of as many as there are.
    pub(super) fn followers(&self, shard: usize) -> Option<Vec<Follower<P>>> {
        let shard = self.shards.get(shard)?.read();
        let follower = |seat: &Seat<K, P>| Follower {
            hash: seat.hash,
            instance: seat.instance.clone(),
            origin: seat.origin.clone(),
            made_from: Arc::clone(&seat.made_from),
        };
        Some(shard.seats.iter().flatten().map(follower).collect())
    }

    /// The shard whose turn it is to be looked through.
    pub(super) fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) & (self.shards.len() - 1)
    }

    pub(super) fn shard_of(&self, hash: u64) -> usize {
        (hash >> 40) as usize & (self.shards.len() - 1)
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// How many places a shard has, the free ones included.
    pub(super) fn seats(&self, shard: usize) -> usize {
        self.shards[shard].read().seats.len()
    }

    /// How many looks it takes to go through a shard.
    pub(super) fn looks(&self, shard: usize) -> usize {
        self.seats(shard).div_ceil(LOOK)
    }

    /// The next few instances of a shard that nobody holds and that were not used after `latest`. Those that are held are
    /// in use at `now`.
    pub(super) fn unused(&self, shard: usize, latest: u64, now: u64) -> Vec<Unused<P>> {
        let shard = self.shards[shard].read();
        let seats = shard.seats.len();
        let look = seats.min(LOOK);
        let begin = shard.hand.fetch_add(look, Ordering::Relaxed);
        let mut unused = Vec::new();
        for place in begin..begin + look {
            let Some(seat) = &shard.seats[place % seats] else { continue };
            let used = seat.used.load(Ordering::Relaxed);
            if seat.instance.holders() > 1 {
                seat.used.store(now, Ordering::Relaxed);
            } else if used <= latest {
                unused.push(Unused { hash: seat.hash, instance: seat.instance.clone(), used });
            }
        }
        unused
    }

    /// Takes an instance out, unless somebody holds it or has asked for it meanwhile.
    pub(super) fn evict(&self, unused: &Unused<P>) -> Option<Seat<K, P>> {
        let mut shard = self.shard(unused.hash).write();
        let place = shard.place_of(unused.hash, |seat| {
            // The registry's handle and the one that is looked at. Every other is a clone made of these, under this
            // shard's lock or of a handle that is counted as long as it lives.
            seat.instance.is(&unused.instance)
                && seat.instance.holders() == 2
                && seat.used.load(Ordering::Relaxed) == unused.used
        })?;
        let seat = shard.remove(place);
        self.len.fetch_sub(usize::from(seat.is_some()), Ordering::Relaxed);
        seat
    }
}

/// What was in a place before.
pub(super) struct Gone<P: Instance> {
    pub(super) instance: P,
    _rest: (Origin<P::Config>, Arc<P::Config>),
}

impl<K, P: Instance> Seat<K, P> {
    pub(super) fn new(
        hash: u64,
        key: K,
        instance: P,
        origin: Origin<P::Config>,
        made_from: Arc<P::Config>,
        now: u64,
    ) -> Self {
        Self { hash, next: NONE, key, instance, origin, made_from, used: AtomicU64::new(now) }
    }
}

impl<K, P: Instance> Shard<K, P> {
    fn new() -> Self {
        Self { places: HashMap::default(), seats: Vec::new(), free: Vec::new(), hand: AtomicUsize::new(0) }
    }

    fn seat(&self, place: u32) -> Option<&Seat<K, P>> {
        self.seats[place as usize].as_ref()
    }

    #[inline]
    fn place<Q>(&self, hash: u64, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.place_of(hash, |seat| seat.key.borrow() == key)
    }

    #[inline]
    fn place_of(&self, hash: u64, is: impl Fn(&Seat<K, P>) -> bool) -> Option<u32> {
        let mut place = *self.places.get(&hash)?;
        loop {
            let seat = self.seat(place)?;
            if is(seat) {
                return Some(place);
            }
            place = seat.next;
            if place == NONE {
                return None;
            }
        }
    }

    fn insert(&mut self, mut seat: Seat<K, P>) {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.seats.push(None);
                u32::try_from(self.seats.len() - 1).expect("fewer instances than fit in memory")
            }
        };
        seat.next = self.places.insert(seat.hash, place).unwrap_or(NONE);
        self.seats[place as usize] = Some(seat);
    }

    fn remove(&mut self, place: u32) -> Option<Seat<K, P>> {
        let seat = self.seats[place as usize].take()?;
        self.free.push(place);
        if let hash_map::Entry::Occupied(mut first) = self.places.entry(seat.hash) {
            if *first.get() != place {
                let mut before = *first.get();
                while let Some(other) = &mut self.seats[before as usize] {
                    if other.next == place {
                        other.next = seat.next;
                        break;
                    }
                    before = other.next;
                }
            } else if seat.next == NONE {
                first.remove();
            } else {
                first.insert(seat.next);
            }
        }
        Some(seat)
    }
}

/// A key that is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole hashes are hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
