// SPDX-License-Identifier: Apache-2.0
//! Finds PEM blocks in text as leniently as Go does.

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// The type of the block of a certificate.
const CERTIFICATE: &[u8] = b"CERTIFICATE";

/// A PEM block.
struct PemBlock<'a> {
    kind: &'a [u8],
    has_headers: bool,
    content: Vec<u8>,
}

/// The content of the first PEM block of any type, and the bytes behind it; `None` when there is
/// no block (semantics §2.6: what stands before and after the block does not matter).
///
/// It takes time in proportion to the text, whatever stands in it: anyone may send one.
pub(crate) fn first_block(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    next_block(text).map(|(block, behind)| (block.content, behind))
}

/// The contents of all blocks that Go takes for certificates when it reads several: those of this
/// type, without headers.
pub(crate) fn certificates(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut rest = text;
    let blocks = std::iter::from_fn(move || {
        let (block, behind) = next_block(rest)?;
        rest = behind;
        Some(block)
    });
    blocks
        .filter(|block| block.kind == CERTIFICATE && !block.has_headers)
        .map(|block| block.content)
}

fn next_block(text: &[u8]) -> Option<(PemBlock<'_>, &[u8])> {
    let mut rest = text;
    // What begins with the next end line. Many beginnings may have one end.
    let mut ending: &[u8] = text;
    loop {
        let after_begin = rest.get(line_start(rest, BEGIN)? + BEGIN.len()..)?;
        let (kind, body) = split_line(after_begin);
        rest = body;
        let Some(kind) = kind.strip_suffix(DASHES) else {
            continue;
        };
        if ending.len() > body.len() || !ending.starts_with(END) {
            ending = body.get(line_start(body, END)?..)?;
        }
        let whole = body.get(..body.len() - ending.len())?;
        let content = without_headers(whole);
        if let Some(at) = line_start(content, BEGIN) {
            // The block that ends there begins later.
            rest = body.get(body.len() - ending.len() - content.len() + at..)?;
            continue;
        }
        rest = ending;
        let (trailer, behind) = split_line(ending);
        let is_end = trailer
            .strip_prefix(END)
            .and_then(|line| line.strip_suffix(DASHES))
            == Some(kind);
        if let Some(decoded) = is_end.then(|| base64(content)).flatten() {
            let block = PemBlock {
                kind,
                has_headers: content.len() < whole.len(),
                content: decoded,
            };
            return Some((block, behind));
        }
    }
}

/// Where the first line that begins with `prefix` starts.
fn line_start(text: &[u8], prefix: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let line = text.get(start..)?;
        if line.starts_with(prefix) {
            return Some(start);
        }
        start += line.iter().position(|byte| *byte == b'\n')? + 1;
    }
}

/// The first line without its white space at the end, and what comes after it.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(text.len());
    let (line, rest) = text.split_at(end);
    (line.trim_ascii_end(), rest.get(1..).unwrap_or_default())
}

/// Skips `name: value` lines at the beginning of a block.
fn without_headers(mut content: &[u8]) -> &[u8] {
    loop {
        let (line, rest) = split_line(content);
        if !line.contains(&b':') {
            return content;
        }
        content = rest;
    }
}

/// Decodes padded base64, ignoring white space.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut sum, mut digits, mut padding) = (0u32, 0u32, 0u32);
    for byte in text
        .iter()
        .filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
    {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        sum = sum << 6 | u32::from(digit);
        digits += 1;
        if digits == 4 {
            out.extend_from_slice(sum.to_be_bytes().get(1..)?);
            (sum, digits) = (0, 0);
        }
    }
    // What is left over has two or three digits, which are one or two bytes.
    match (digits, padding) {
        (0, 0) => {}
        (2, 2) => out.push((sum >> 4) as u8),
        (3, 1) => out.extend_from_slice(&((sum >> 2) as u16).to_be_bytes()),
        _ => return None,
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &str) -> Option<Vec<u8>> {
        first_block(text.as_bytes()).map(|(content, _)| content)
    }

    #[test]
    fn finds_the_first_block_whatever_stands_around_it() {
        let block = "-----BEGIN CERTIFICATE-----\naGVs\r\nbG8=\n-----END CERTIFICATE-----\n";
        assert_eq!(decode(block).unwrap(), b"hello");
        assert_eq!(
            decode(&format!("subject: x\n{block}garbage")).unwrap(),
            b"hello"
        );
        assert_eq!(
            decode("-----BEGIN -----\naGk=\n-----END -----").unwrap(),
            b"hi"
        );
        assert_eq!(
            decode("-----BEGIN X-----\nA: b\n\naGk=\n-----END X-----").unwrap(),
            b"hi"
        );
        assert_eq!(
            decode(&format!("-----BEGIN A-----\n!\n-----END A-----\n{block}")).unwrap(),
            b"hello"
        );
        assert_eq!(
            decode(&format!("-----BEGIN A-----\nB: c\n{block}")).unwrap(),
            b"hello"
        );
        assert_eq!(
            decode(&format!("-----END A-----\n-----BEGIN A\n{block}")).unwrap(),
            b"hello"
        );
        assert_eq!(certificates(block.repeat(3).as_bytes()).count(), 3);
    }

    #[test]
    fn only_blocks_of_certificates_without_headers_are_certificates() {
        let block = |kind: &str, header: &str, content: &str| {
            format!("-----BEGIN {kind}-----\n{header}{content}\n-----END {kind}-----\n")
        };
        let text = [
            block("PUBLIC KEY", "", "aGk="),
            block("CERTIFICATE", "", "aGVsbG8="),
            block("CERTIFICATE", "a: b\n\n", "aGk="),
            block("TRUSTED CERTIFICATE", "", "aGk="),
            block("CERTIFICATE", "", "eW8="),
        ]
        .concat();
        let found: Vec<_> = certificates(text.as_bytes()).collect();
        assert_eq!(found, [&b"hello"[..], b"yo"]);
    }

    #[test]
    fn refuses_what_is_no_block() {
        for bad in [
            "",
            "hello",
            "-----BEGIN X-----",
            "-----BEGIN X-----\naGk=",
            "-----BEGIN X-----\naGk=\n-----END Y-----",
            "-----BEGIN X-----\naGk\n-----END X-----",
            "-----BEGIN X-----\naG=k\n-----END X-----",
            "x-----BEGIN X-----\naGk=\n-----END X-----",
        ] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    /// Each of these took minutes when every beginning looked for its own end.
    #[test]
    fn beginnings_without_end_take_no_time() {
        let begin = "-----BEGIN X-----\n";
        let with_header = "-----BEGIN X:-----\nA: b\n";
        let end = "!\n-----END X-----\n";
        for part in [begin, with_header] {
            let many = part.repeat(100_000);
            assert_eq!(decode(&many), None);
            assert_eq!(decode(&format!("{many}{end}")), None);
            assert_eq!(
                decode(&format!("{many}{}", "-----END Y-----\n".repeat(1000))),
                None
            );
            let good = format!("{many}{end}{begin}aGk=\n-----END X-----");
            assert_eq!(decode(&good).unwrap(), b"hi");
        }
    }

    /// The blocks as plain as they can be found: from every line on, and to every line.
    fn naive(text: &[u8]) -> Option<Vec<u8>> {
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        (0..lines.len()).find_map(|first| {
            let kind = split_line(lines[first].strip_prefix(BEGIN)?)
                .0
                .strip_suffix(DASHES)?;
            let last = (first + 1..lines.len()).find(|line| lines[*line].starts_with(END))?;
            let end = split_line(lines[last].strip_prefix(END)?)
                .0
                .strip_suffix(DASHES)?;
            let content = lines[first + 1..last].concat();
            (kind == end)
                .then(|| base64(without_headers(&content)))
                .flatten()
        })
    }

    fn any_line() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec![
            "-----BEGIN A-----\n",
            "-----BEGIN B----- \n",
            "-----BEGIN A\n",
            "-----END A-----\n",
            "-----END B-----\r\n",
            "-----END A-----",
            "name: value\n",
            "aGk=\n",
            "aGVs\n",
            "!\n",
            "\n",
        ])
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_search(lines in proptest::collection::vec(any_line(), 0..12)) {
            let text = lines.concat();
            prop_assert_eq!(decode(&text), naive(text.as_bytes()), "{}", text);
        }

        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(first_block(&text));
        }
    }
}
