// SPDX-License-Identifier: Apache-2.0
//! ECDSA P-256 signatures in the one form that Fabric accepts: a DER sequence with low S.

/// The bytes of one of the two numbers of a signature.
const SCALAR: usize = 32;

/// The order of the curve P-256, big-endian.
const ORDER: [u8; SCALAR] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Half the order, rounded down: the largest S that is low (semantics §2.6).
const HALF_ORDER: [u8; SCALAR] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// The DER tags that a signature is made of.
const TAG_SEQUENCE: u8 = 0x30;
const TAG_INTEGER: u8 = 0x02;

/// Whether an S, big-endian, is at most half the order.
fn is_low(s: &[u8; SCALAR]) -> bool {
    // Arrays of one length compare like the big-endian numbers they hold.
    *s <= HALF_ORDER
}

/// The smaller of S and order − S: both verify, and Fabric takes the smaller alone.
///
/// S is public, so nothing here needs to run in constant time.
fn to_low(s: [u8; SCALAR]) -> [u8; SCALAR] {
    if is_low(&s) {
        return s;
    }
    let mut low = [0; SCALAR];
    let mut borrow = false;
    for ((low, order), s) in low.iter_mut().zip(ORDER).zip(s).rev() {
        let (difference, under) = order.overflowing_sub(s);
        let (difference, under_again) = difference.overflowing_sub(u8::from(borrow));
        *low = difference;
        borrow = under || under_again;
    }
    low
}

/// The DER sequence of R and low S for a signature in the fixed form R ‖ S; `None` when the form is
/// not 64 bytes long.
pub(crate) fn der_with_low_s(fixed: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = fixed.split_first_chunk::<SCALAR>()?;
    let s = <[u8; SCALAR]>::try_from(s).ok()?;
    // Two integers of at most 33 bytes: every length fits the short form.
    let mut body = Vec::with_capacity(2 * (SCALAR + 3));
    put_integer(&mut body, r);
    put_integer(&mut body, &to_low(s));
    let mut der = Vec::with_capacity(body.len() + 2);
    der.push(TAG_SEQUENCE);
    der.push(body.len() as u8);
    der.extend(body);
    Some(der)
}

/// Appends a positive DER integer with as few bytes as it takes.
fn put_integer(out: &mut Vec<u8>, number: &[u8; SCALAR]) {
    let zeros = number
        .iter()
        .take_while(|byte| **byte == 0)
        .count()
        .min(SCALAR - 1);
    let digits = number.get(zeros..).unwrap_or_default();
    // The top bit is the sign.
    let padded = digits.first().is_some_and(|byte| byte & 0x80 != 0);
    out.push(TAG_INTEGER);
    out.push(digits.len() as u8 + u8::from(padded));
    if padded {
        out.push(0);
    }
    out.extend_from_slice(digits);
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{
            ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
            UnparsedPublicKey,
        },
    };
    use proptest::prelude::*;

    use super::*;

    const ONE: [u8; SCALAR] = {
        let mut one = [0; SCALAR];
        one[SCALAR - 1] = 1;
        one
    };

    /// Semantics §2.6.
    #[test]
    fn thousands_of_signatures_are_low_and_verify() {
        let mut flipped = 0;
        for round in 0..8 {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let public_key =
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
            for message in 0..500_u32 {
                let message = message.to_be_bytes();
                let fixed = key.sign(&SystemRandom::new(), &message).unwrap();
                let der = der_with_low_s(fixed.as_ref()).unwrap();
                let (r, s) = parse_minimal_der(&der);
                assert_eq!(r, fixed.as_ref()[..SCALAR]);
                assert!(is_low(&s), "round {round}: {}", hex::encode(&der));
                public_key.verify(&message, &der).unwrap();
                flipped += u32::from(s != fixed.as_ref()[SCALAR..]);
            }
        }
        // Each S is high with probability one half: 4000 fair coins stay between these bounds.
        assert!(
            (1500..2500).contains(&flipped),
            "{flipped} of 4000 were high"
        );
    }

    #[test]
    fn the_half_is_the_largest_low_s() {
        let above_half = add(HALF_ORDER, ONE);
        assert!(is_low(&HALF_ORDER) && !is_low(&above_half));
        // The order is odd: the two halves add up to it, with one left over.
        assert_eq!(add(HALF_ORDER, above_half), ORDER);
        assert_eq!(to_low(above_half), HALF_ORDER);
        assert_eq!(to_low(ORDER), [0; SCALAR]);
        assert_eq!(to_low(ONE), ONE);
    }

    #[test]
    fn integers_are_as_short_as_they_can_be() {
        let mut top_bit = [0; SCALAR];
        top_bit[SCALAR - 1] = 0x80;
        let rows = [
            (ONE, ONE, "3006020101020101".to_owned()),
            // A top bit takes a zero in front of it.
            (top_bit, ONE, "300702020080020101".to_owned()),
            ([0; SCALAR], ONE, "3006020100020101".to_owned()),
            (
                [0xff; SCALAR],
                HALF_ORDER,
                format!(
                    "3045022100{}0220{}",
                    "ff".repeat(32),
                    hex::encode(HALF_ORDER)
                ),
            ),
        ];
        for (r, s, expected) in rows {
            let der = der_with_low_s(&[r, s].concat()).unwrap();
            assert_eq!(hex::encode(&der), expected);
            assert_eq!(parse_minimal_der(&der), (r, s));
        }
    }

    #[test]
    fn a_form_of_another_length_is_refused() {
        for length in [0, 31, 63, 65, 72, 128] {
            assert_eq!(der_with_low_s(&vec![1; length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn low_s_is_s_or_what_it_lacks_to_the_order(s: [u8; SCALAR]) {
            prop_assume!(s < ORDER);
            let low = to_low(s);
            prop_assert!(is_low(&low));
            prop_assert!(low == s || add(low, s) == ORDER);
            prop_assert_eq!(to_low(low), low);
        }

        #[test]
        fn encodings_read_back(r: [u8; SCALAR], s: [u8; SCALAR], zeros in 0..=SCALAR) {
            let mut r = r;
            r[..zeros].fill(0);
            prop_assume!(s < ORDER);
            let der = der_with_low_s(&[r, s].concat()).unwrap();
            prop_assert_eq!(parse_minimal_der(&der), (r, to_low(s)));
        }
    }

    /// Whether a signature is what Fabric accepts: minimal DER with low S.
    pub(crate) fn is_minimal_with_low_s(der: &[u8]) -> bool {
        is_low(&parse_minimal_der(der).1)
    }

    /// Reads R and S, and fails on any byte that need not be there.
    fn parse_minimal_der(der: &[u8]) -> ([u8; SCALAR], [u8; SCALAR]) {
        let (r, rest) = parse_integer(&der[2..]);
        let (s, rest) = parse_integer(rest);
        assert_eq!(
            (der[0], usize::from(der[1]), rest),
            (0x30, der.len() - 2, &[][..])
        );
        (r, s)
    }

    fn parse_integer(der: &[u8]) -> ([u8; SCALAR], &[u8]) {
        assert_eq!(der[0], 0x02);
        let (digits, rest) = der[2..].split_at(usize::from(der[1]));
        assert!(digits[0] < 0x80, "negative");
        assert!(
            digits.len() == 1 || digits[0] != 0 || digits[1] >= 0x80,
            "longer than needed"
        );
        let digits = if digits.len() > SCALAR {
            &digits[1..]
        } else {
            digits
        };
        let mut number = [0; SCALAR];
        number[SCALAR - digits.len()..].copy_from_slice(digits);
        (number, rest)
    }

    fn add(a: [u8; SCALAR], b: [u8; SCALAR]) -> [u8; SCALAR] {
        let mut sum = [0; SCALAR];
        let mut carry = 0;
        for index in (0..SCALAR).rev() {
            let digit = u16::from(a[index]) + u16::from(b[index]) + carry;
            sum[index] = digit as u8;
            carry = digit >> 8;
        }
        assert_eq!(carry, 0, "the sum takes 33 bytes");
        sum
    }
}
