// SPDX-License-Identifier: Apache-2.0
//! The lower and the upper form of a P-256 signature: Fabric takes the lower one alone
//! (semantics §2.6).

/// The order of the group of P-256, big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Half of it, rounded down.
const HALF: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// Whether the signature is in its lower form; `None` when it is no P-256 signature in DER.
#[cfg(test)]
pub(crate) fn is_low_s(signature: &[u8]) -> Option<bool> {
    parse(signature).map(|(_, s)| s <= HALF)
}

/// The signature with `s` in its upper form, which is as true and which Fabric refuses; `None`
/// when it is no P-256 signature in DER.
pub(crate) fn high_s(signature: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = parse(signature)?;
    Some(encode(&r, &if s <= HALF { negated(&s) } else { s }))
}

/// The signature with `s` in its lower form; `None` when it is no P-256 signature in DER.
pub(crate) fn low_s(signature: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = parse(signature)?;
    Some(encode(&r, &if s <= HALF { s } else { negated(&s) }))
}

fn parse(signature: &[u8]) -> Option<([u8; 32], [u8; 32])> {
    let (tag, body, _) = element(signature)?;
    if tag != SEQUENCE {
        return None;
    }
    let (r, rest) = integer(body)?;
    let (s, _) = integer(rest)?;
    Some((r, s))
}

/// A DER element with a length below 128, as both levels of a P-256 signature have.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk::<2>()?;
    let (content, rest) = rest.split_at_checked(usize::from(length))?;
    (length < 0x80).then_some((tag, content, rest))
}

fn integer(der: &[u8]) -> Option<([u8; 32], &[u8])> {
    let (tag, content, rest) = element(der)?;
    let digits = content.strip_prefix(&[0]).unwrap_or(content);
    let start = 32_usize.checked_sub(digits.len())?;
    let mut value = [0; 32];
    value.get_mut(start..)?.copy_from_slice(digits);
    (tag == INTEGER).then_some((value, rest))
}

fn encode(r: &[u8; 32], s: &[u8; 32]) -> Vec<u8> {
    let mut body = Vec::with_capacity(70);
    for value in [r, s] {
        let zeros = value.iter().take(31).take_while(|byte| **byte == 0).count();
        let digits: Vec<u8> = value.iter().skip(zeros).copied().collect();
        // A leading one bit would make the integer negative.
        let padding = digits.first().is_some_and(|byte| *byte >= 0x80);
        body.push(INTEGER);
        body.push((digits.len() + usize::from(padding)) as u8);
        body.extend(padding.then_some(0));
        body.extend(digits);
    }
    let mut der = vec![SEQUENCE, body.len() as u8];
    der.extend(body);
    der
}

/// The order minus `s`.
fn negated(s: &[u8; 32]) -> [u8; 32] {
    let mut difference = [0; 32];
    let mut borrow = 0;
    for ((out, order), s) in difference.iter_mut().zip(ORDER).zip(s).rev() {
        let digit = i16::from(order) - i16::from(*s) - borrow;
        borrow = i16::from(digit < 0);
        *out = digit.rem_euclid(256) as u8;
    }
    difference
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn of_s(s: [u8; 32]) -> Vec<u8> {
        encode(&[0x81; 32], &s)
    }

    #[test]
    fn upper_and_lower_form_are_told_apart_and_turned_into_each_other() {
        let mut above = HALF;
        above[31] += 1;
        assert_eq!(is_low_s(&of_s(HALF)), Some(true));
        assert_eq!(is_low_s(&of_s(above)), Some(false));
        assert_eq!(high_s(&of_s(HALF)), Some(of_s(above)));
        assert_eq!(low_s(&of_s(above)), Some(of_s(HALF)));
        assert_eq!(low_s(&of_s(HALF)), Some(of_s(HALF)));

        let mut one = [0; 32];
        one[31] = 1;
        let mut last = ORDER;
        last[31] -= 1;
        assert_eq!(high_s(&of_s(one)), Some(of_s(last)));
        assert_eq!(low_s(&of_s(last)), Some(of_s(one)));
    }

    #[test]
    fn what_is_no_signature_is_none() {
        for bytes in [
            &b""[..],
            b"0",
            b"\x30\x01",
            b"\x30\x02\x02\x00",
            b"\x31\x06\x02\x01\x01\x02\x01\x01",
        ] {
            assert_eq!(is_low_s(bytes), None, "{bytes:x?}");
        }
        assert_eq!(is_low_s(b"\x30\x06\x02\x01\x01\x02\x01\x01"), Some(true));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..100)) {
            let _ = (is_low_s(&bytes), low_s(&bytes), high_s(&bytes));
        }

        #[test]
        fn the_forms_lead_to_each_other(r in any::<[u8; 32]>(), mut s in any::<[u8; 32]>()) {
            // Below the order, and above zero.
            s[0] &= 0x7f;
            s[31] |= 1;
            let signature = encode(&r, &s);
            let (low, high) = (low_s(&signature).unwrap(), high_s(&signature).unwrap());
            prop_assert_eq!((is_low_s(&low), is_low_s(&high)), (Some(true), Some(false)));
            prop_assert_eq!(low_s(&high), Some(low.clone()));
            prop_assert_eq!(high_s(&low), Some(high));
            prop_assert!(signature == low || low_s(&signature) == Some(low));
        }
    }
}
