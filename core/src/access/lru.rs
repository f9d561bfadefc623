//! A cache bounded by bytes that forgets what was not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most `capacity` bytes of values, by the weights that they came with.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    capacity: usize,
    used: usize,
    clock: u64,
    entries: HashMap<K, (V, usize, u64)>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, K>,
}

impl<K: Clone + Eq + Hash, V: Clone> Lru<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, used: 0, clock: 0, entries: HashMap::new(), order: BTreeMap::new() }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        let (value, _, used) = self.entries.get_mut(key)?;
        self.clock += 1;
        self.order.remove(used);
        self.order.insert(self.clock, key.clone());
        *used = self.clock;
        Some(value.clone())
    }

    /// Keeps a value; one that is larger than half the cache is not kept, since it would drive out all others.
    pub(crate) fn put(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        if weight > self.capacity / 2 {
            return;
        }
        self.clock += 1;
        self.used += weight;
        self.order.insert(self.clock, key.clone());
        self.entries.insert(key, (value, weight, self.clock));
        self.shrink();
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some((_, weight, used)) = self.entries.remove(key) {
            self.used -= weight;
            self.order.remove(&used);
        }
    }

    /// Forgets what `keep` says no to.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        let gone: Vec<K> = self.entries.keys().filter(|key| !keep(key)).cloned().collect();
        gone.iter().for_each(|key| self.remove(key));
    }

    pub(crate) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.used > self.capacity {
            let Some((_, key)) = self.order.pop_first() else { return };
            if let Some((_, weight, _)) = self.entries.remove(&key) {
                self.used -= weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lru;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Lru::new(100);
        cache.put("a", 1, 40);
        cache.put("b", 2, 40);
        assert_eq!(cache.get(&"a"), Some(1));
        cache.put("c", 3, 40);
        assert_eq!((cache.get(&"a"), cache.get(&"b"), cache.get(&"c")), (Some(1), None, Some(3)));
        assert_eq!(cache.used, 80);
    }

    #[test]
    fn a_value_too_large_drives_nothing_out() {
        let mut cache = Lru::new(100);
        cache.put("a", 1, 40);
        cache.put("b", 2, 60);
        assert_eq!((cache.get(&"a"), cache.get(&"b")), (Some(1), None));
    }

    #[test]
    fn replacing_and_removing_keep_the_count() {
        let mut cache = Lru::new(100);
        cache.put("a", 1, 40);
        cache.put("a", 2, 10);
        cache.put("b", 2, 10);
        cache.retain(|key| *key != "a");
        assert_eq!((cache.used, cache.order.len(), cache.get(&"a")), (10, 1, None));
        cache.resize(5);
        assert_eq!((cache.used, cache.order.len(), cache.entries.len()), (0, 0, 0));
    }
}
