// SPDX-License-Identifier: Apache-2.0
//! The little DER that signatures need, with Go's verdict on what parses.

use crate::key::Curve;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const SEQUENCE: u8 = 0x30;

/// The longest content that Go's decoder takes.
const MAX_CONTENT: usize = 1 << 23;

/// One element: its tag, its content, all its bytes, and the bytes behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
    pub(crate) rest: &'a [u8],
}

/// The two integers of an ECDSA signature, big-endian without leading zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EcdsaSignature<'a> {
    pub(crate) r: &'a [u8],
    pub(crate) s: &'a [u8],
    /// The sequence as it stands, when there is nothing in it but the two integers.
    exact: Option<&'a [u8]>,
}

impl<'a> Element<'a> {
    /// Reads the first element of `input`; `None` when it is cut off or not in DER.
    pub(crate) fn read(input: &'a [u8]) -> Option<Self> {
        let (&tag, after_tag) = input.split_first()?;
        let (&first, mut rest) = after_tag.split_first()?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let mut length = 0usize;
            // A count of zero is the indefinite form, which leaves the length below 0x80.
            for _ in 0..first & 0x7f {
                let (&byte, after) = rest.split_first()?;
                if length >= MAX_CONTENT {
                    return None;
                }
                length = length << 8 | usize::from(byte);
                if length == 0 {
                    return None;
                }
                rest = after;
            }
            if length < 0x80 {
                return None;
            }
            length
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = input.get(..input.len() - rest.len())?;
        Some(Self {
            tag,
            content,
            whole,
            rest,
        })
    }

    /// Reads the first element, which must have this tag.
    pub(crate) fn expect(input: &'a [u8], tag: u8) -> Option<Self> {
        Self::read(input).filter(|element| element.tag == tag)
    }
}

impl<'a> EcdsaSignature<'a> {
    /// Reads a signature. What stands behind the sequence, or in it behind the two integers, does
    /// not matter (semantics §2.6).
    pub(crate) fn parse(signature: &'a [u8]) -> Option<Self> {
        let sequence = Element::expect(signature, SEQUENCE)?;
        let r = Element::expect(sequence.content, INTEGER)?;
        let s = Element::expect(r.rest, INTEGER)?;
        Some(Self {
            r: positive(r.content)?,
            s: positive(s.content)?,
            exact: s.rest.is_empty().then_some(sequence.whole),
        })
    }

    /// Whether `s` is at most half the order of the curve.
    pub(crate) fn is_low_s(&self, curve: Curve) -> bool {
        let half = curve.half_order();
        (self.s.len(), self.s) <= (half.len(), half)
    }

    /// The signature in DER, with nothing else in it.
    pub(crate) fn with_der<T>(&self, then: impl FnOnce(&[u8]) -> T) -> T {
        match self.exact {
            Some(exact) => then(exact),
            None => then(&encode(self.r, self.s)),
        }
    }

    /// The signature in DER with the lower of the two possible values of `s`; `None` when `s` is
    /// above the order of the curve.
    pub(crate) fn to_low_s(self, curve: Curve) -> Option<Vec<u8>> {
        if self.is_low_s(curve) {
            return Some(encode(self.r, self.s));
        }
        self.with_other_s(curve)
    }

    /// The signature in DER with the other one of the two possible values of `s`.
    pub(crate) fn with_other_s(self, curve: Curve) -> Option<Vec<u8>> {
        let order = curve.order();
        let padding = order.len().checked_sub(self.s.len())?;
        let mut other = Vec::with_capacity(order.len());
        let mut borrow = 0i16;
        for (index, digit) in order.iter().enumerate().rev() {
            let subtrahend = index
                .checked_sub(padding)
                .and_then(|at| self.s.get(at))
                .copied()
                .unwrap_or(0);
            let difference = i16::from(*digit) - i16::from(subtrahend) - borrow;
            borrow = i16::from(difference < 0);
            // The low eight bits are the digit; the borrow carries the rest.
            other.push(difference as u8);
        }
        if borrow != 0 {
            return None;
        }
        other.reverse();
        Some(encode(self.r, trimmed(&other)?))
    }
}

/// Appends an element.
pub(crate) fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let big_endian = content.len().to_be_bytes();
            let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
            // At most eight length bytes follow, so the sum stays below 0x89.
            out.push(0x80 | (big_endian.len() - zeros) as u8);
            out.extend(big_endian.iter().skip(zeros));
        }
    }
    out.extend_from_slice(content);
}

fn encode(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(r.len() + s.len() + 6);
    for integer in [r, s] {
        if integer.first().is_some_and(|byte| *byte >= 0x80) {
            put(&mut content, INTEGER, &[&[0], integer].concat());
        } else {
            put(&mut content, INTEGER, integer);
        }
    }
    let mut out = Vec::with_capacity(content.len() + 3);
    put(&mut out, SEQUENCE, &content);
    out
}

/// The digits of a minimally encoded integer above zero.
fn positive(content: &[u8]) -> Option<&[u8]> {
    match content {
        [] | [0] => None,
        [sign, ..] if *sign >= 0x80 => None,
        [0, second, ..] if *second < 0x80 => None,
        [0, digits @ ..] => Some(digits),
        digits => Some(digits),
    }
}

/// The digits from the first one above zero on; `None` for zero.
fn trimmed(digits: &[u8]) -> Option<&[u8]> {
    let start = digits.iter().position(|digit| *digit != 0)?;
    digits.get(start..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<(String, String)> {
        let bytes = hex::decode(text.replace(' ', "")).unwrap();
        EcdsaSignature::parse(&bytes)
            .map(|signature| (hex::encode(signature.r), hex::encode(signature.s)))
    }

    /// Covers: NEW-07
    #[test]
    fn signatures_parse_as_go_parses_them() {
        let good = Some(("01".to_owned(), "02".to_owned()));
        assert_eq!(parse("3006 020101 020102"), good);
        assert_eq!(
            parse("3006 020101 020102 ffff"),
            good,
            "behind the sequence anything may stand"
        );
        assert_eq!(
            parse("3008 020101 020102 0500"),
            good,
            "in the sequence, too"
        );
        assert_eq!(
            parse("3007 02020081 020102"),
            Some(("81".to_owned(), "02".to_owned()))
        );
        for bad in [
            "",
            "30",
            "3006 020101 0201",
            "3106 020101 020102",
            "3003 020101",
            "3006 020100 020102",
            "3006 020101 020181",
            "3007 02020001 020102",
            "3005 0200 020102",
            "308106 020101 020102",
            "3080 020101 020102 0000",
            "30820006 020101 020102",
            "3006 040101 020102",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn low_s_is_the_complement() {
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            let half = curve.half_order();
            let at_half = encode(&[1], half);
            let at_half = EcdsaSignature::parse(&at_half).unwrap();
            assert!(at_half.is_low_s(curve), "{curve:?}");
            let mut above = half.to_vec();
            *above.last_mut().unwrap() += 1;
            let high = encode(&[1], &above);
            let high = EcdsaSignature::parse(&high).unwrap();
            assert!(!high.is_low_s(curve), "{curve:?}");
            // The order is odd, so the complement of half + 1 is half.
            assert_eq!(
                high.to_low_s(curve).unwrap(),
                encode(&[1], half),
                "{curve:?}"
            );
            let too_big = encode(&[1], &[curve.order(), &[0]].concat());
            assert_eq!(
                EcdsaSignature::parse(&too_big).unwrap().to_low_s(curve),
                None
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(signature) = EcdsaSignature::parse(&bytes) {
                signature.with_der(|der| assert!(EcdsaSignature::parse(der).is_some()));
                let low = signature.to_low_s(Curve::P256);
                prop_assert!(low.is_none_or(|low| EcdsaSignature::parse(&low).unwrap().is_low_s(Curve::P256)));
            }
        }
    }
}
