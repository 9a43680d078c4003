// SPDX-License-Identifier: Apache-2.0
//! Which chunks of a body there are.

/// One bit for each chunk of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    count: u32,
    set: u32,
}

impl Bits {
    /// So many chunks, of which there is none.
    pub(crate) fn none(count: u32) -> Self {
        Self {
            bytes: vec![0; count.div_ceil(8) as usize],
            count,
            set: 0,
        }
    }

    /// So many chunks, which are all there.
    pub(crate) fn all(count: u32) -> Self {
        let mut bits = Self::none(count);
        for chunk in 0..count {
            bits.insert(chunk);
        }
        bits
    }

    /// What another node wrote; what it left out is not there.
    pub(crate) fn of_bytes(bytes: &[u8], count: u32) -> Self {
        let mut bits = Self::none(count);
        for chunk in 0..count {
            let byte = bytes.get(chunk as usize / 8).copied().unwrap_or_default();
            if byte & (1 << (chunk % 8)) != 0 {
                bits.insert(chunk);
            }
        }
        bits
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn contains(&self, chunk: u32) -> bool {
        let byte = self.bytes.get(chunk as usize / 8);
        byte.is_some_and(|byte| byte & (1 << (chunk % 8)) != 0)
    }

    /// `false` when it was there, or is none of this body.
    pub(crate) fn insert(&mut self, chunk: u32) -> bool {
        if chunk >= self.count || self.contains(chunk) {
            return false;
        }
        if let Some(byte) = self.bytes.get_mut(chunk as usize / 8) {
            *byte |= 1 << (chunk % 8);
        }
        self.set += 1;
        true
    }

    pub(crate) fn is_full(&self) -> bool {
        self.set == self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// How many chunks the body has.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The chunks that are here and not there.
    pub(crate) fn beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        (0..self.count).filter(|chunk| self.contains(*chunk) && !other.contains(*chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_and_come_back_from_their_bytes() {
        let mut bits = Bits::none(11);
        assert!(bits.insert(0) && bits.insert(10) && !bits.insert(10) && !bits.insert(11));
        assert!(!bits.is_full() && !bits.contains(11) && !bits.contains(1000));
        assert_eq!(Bits::of_bytes(bits.as_bytes(), 11), bits);
        assert_eq!(Bits::all(11).beyond(&bits).count(), 9);
        assert!(Bits::all(11).is_full() && Bits::of_bytes(&[255; 9], 11).is_full());
        assert_eq!(Bits::of_bytes(&[], 11), Bits::none(11));
        assert!(Bits::none(11).is_empty() && !bits.is_empty());
    }
}
