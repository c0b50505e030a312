//! Storage for things with stable names: places that are reused, each with a generation.
//!
//! Shape:      one vector of places; vacant ones are kept on a stack, so the place that was left
//!             last, and is warm in the cache, is used next.
//! Invariants: 1. a generation is 1 or more, and grows each time its place is left.
//!             2. an index that this module handed out names a live value until `remove`.

use core::ops::{Index, IndexMut};

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// A vector of reusable places.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    vacant: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            vacant: Vec::new(),
        }
    }

    /// How many values are live.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    /// Stores a value and returns its index and generation.
    pub(crate) fn insert(&mut self, value: T) -> (u32, u32) {
        if let Some(index) = self.vacant.pop() {
            let place = &mut self.places[index as usize];
            place.value = Some(value);
            return (index, place.generation);
        }
        let index = u32::try_from(self.places.len()).expect("fewer than 2^32 live values");
        self.places.push(Place {
            generation: 1,
            value: Some(value),
        });
        (index, 1)
    }

    /// Takes the value out of a live place.
    pub(crate) fn remove(&mut self, index: u32) -> T {
        let place = &mut self.places[index as usize];
        let value = place.value.take().expect("the place is live (invariant 2)");
        place.generation = place.generation.checked_add(1).unwrap_or(1);
        self.vacant.push(index);
        value
    }

    /// Takes every value out, and leaves no name behind.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        let places = core::mem::take(&mut self.places);
        self.vacant.clear();
        places.into_iter().filter_map(|place| place.value)
    }

    /// All live values, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places
            .iter_mut()
            .filter_map(|place| place.value.as_mut())
    }

    /// The index, if the name is not stale.
    pub(crate) fn find(&self, index: u32, generation: u32) -> Option<u32> {
        let place = self.places.get(index as usize)?;
        (place.generation == generation && place.value.is_some()).then_some(index)
    }

    /// The generation of a live place.
    pub(crate) fn generation(&self, index: u32) -> u32 {
        self.places[index as usize].generation
    }

    /// All live indices, in order.
    pub(crate) fn indices(&self) -> Vec<u32> {
        let live = self
            .places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.value.is_some());
        live.map(|(index, _)| index as u32).collect()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        self.places[index as usize]
            .value
            .as_ref()
            .expect("the place is live (invariant 2)")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.places[index as usize]
            .value
            .as_mut()
            .expect("the place is live (invariant 2)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_place_has_another_name() {
        let mut slab = Slab::new();
        let (index, generation) = slab.insert("first");
        assert_eq!(slab.remove(index), "first");
        assert_eq!(slab.find(index, generation), None);
        let (again, next) = slab.insert("second");
        assert_eq!((again, next), (index, generation + 1));
        assert_eq!(slab.find(again, next), Some(index));
        assert_eq!(slab[index], "second");
    }

    #[test]
    fn only_live_places_are_listed_and_counted() {
        let mut slab = Slab::new();
        for value in 0..5 {
            slab.insert(value);
        }
        slab.remove(1);
        slab.remove(3);
        assert_eq!(slab.indices(), [0, 2, 4]);
        assert_eq!(slab.len(), 3);
        assert_eq!(slab.find(1, 1), None);
        assert_eq!(slab.find(99, 1), None);
    }
}
