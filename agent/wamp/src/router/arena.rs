//! Slots with keys that outlive their tenants: an old key finds nothing, even after its slot was let again.

use std::marker::PhantomData;

/// Names a slot's tenant: by its type, or by a mark where the type is nobody else's business.
pub struct Key<T> {
    index: u32,
    generation: u32,
    tenant: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// Names nobody.
    pub fn none() -> Key<T> {
        Key {
            index: u32::MAX,
            generation: 0,
            tenant: PhantomData,
        }
    }

    /// The slot, for tables beside the arena.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Which tenant of the slot.
    pub fn generation(self) -> u32 {
        self.generation
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}

impl<T> Eq for Key<T> {}

impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}

impl<T> std::hash::Hash for Key<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.index) << 32 | u64::from(self.generation));
    }
}

impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

struct Slot<T> {
    generation: u32,
    tenant: Option<T>,
}

/// The slots, their keys marked by `M`.
pub struct Arena<T, M = T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    names: PhantomData<fn() -> M>,
}

impl<T, M> Default for Arena<T, M> {
    fn default() -> Self {
        Arena {
            slots: Vec::new(),
            free: Vec::new(),
            names: PhantomData,
        }
    }
}

impl<T, M> Arena<T, M> {
    /// Lets a slot.
    pub fn insert(&mut self, tenant: T) -> Key<M> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                tenant: None,
            });
            // Fewer than 2^32 of anything fit into memory.
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.tenant = Some(tenant);
        Key {
            index,
            generation: slot.generation,
            tenant: PhantomData,
        }
    }

    /// The tenant, if it is still there.
    pub fn get(&self, key: Key<M>) -> Option<&T> {
        self.slots
            .get(key.index())
            .filter(|slot| slot.generation == key.generation)?
            .tenant
            .as_ref()
    }

    /// The tenant, if it is still there.
    pub fn get_mut(&mut self, key: Key<M>) -> Option<&mut T> {
        self.slots
            .get_mut(key.index())
            .filter(|slot| slot.generation == key.generation)?
            .tenant
            .as_mut()
    }

    /// Takes the tenant out.
    pub fn remove(&mut self, key: Key<M>) -> Option<T> {
        let slot = self
            .slots
            .get_mut(key.index())
            .filter(|slot| slot.generation == key.generation)?;
        let tenant = slot.tenant.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(tenant)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many slots there are, those without a tenant among them.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The key of a slot's tenant.
    pub fn at(&self, index: usize) -> Option<Key<M>> {
        let slot = self.slots.get(index).filter(|slot| slot.tenant.is_some())?;
        Some(Key {
            index: index as u32,
            generation: slot.generation,
            tenant: PhantomData,
        })
    }

    /// All tenants with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (Key<M>, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = Key {
                index: index as u32,
                generation: slot.generation,
                tenant: PhantomData,
            };
            slot.tenant.as_ref().map(|tenant| (key, tenant))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing_in_a_slot_let_again() {
        let mut arena: Arena<&str> = Arena::default();
        let old = arena.insert("a");
        assert_eq!(arena.remove(old), Some("a"));
        let new = arena.insert("b");
        assert_eq!(
            (old.index(), arena.get(old), arena.get(new)),
            (new.index(), None, Some(&"b"))
        );
        assert_eq!((arena.remove(old), arena.len()), (None, 1));
    }
}
