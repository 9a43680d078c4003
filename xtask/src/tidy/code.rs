// SPDX-License-Identifier: Apache-2.0
//! The code of a Rust file without its comments and the contents of its literals.

/// Blanks comments, strings and characters; every line stays where it was.
pub(super) fn code_only(text: &str) -> String {
    let mut scanner = Scanner {
        chars: text.chars().collect(),
        at: 0,
        out: String::with_capacity(text.len()),
    };
    scanner.run();
    scanner.out
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Scanner {
    fn run(&mut self) {
        while let Some(current) = self.peek(0) {
            match (current, self.peek(1)) {
                ('/', Some('/')) => self.line_comment(),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('\'', _) => self.quote(),
                ('r', Some('"' | '#')) if self.starts_literal() => self.raw_string(),
                _ => self.keep(1),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn keep(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(char) = self.peek(0) {
                self.out.push(char);
                self.at += 1;
            }
        }
    }

    fn blank(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(char) = self.peek(0) {
                self.out.push(if char == '\n' { '\n' } else { ' ' });
                self.at += 1;
            }
        }
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|char| char != '\n') {
            self.blank(1);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.peek(0).is_some() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.blank(2);
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.blank(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.blank(1),
            }
        }
    }

    fn string(&mut self) {
        self.keep(1);
        while let Some(char) = self.peek(0) {
            match char {
                '\\' => self.blank(2),
                '"' => {
                    self.keep(1);
                    return;
                }
                _ => self.blank(1),
            }
        }
    }

    /// A character, or the tick of a lifetime.
    fn quote(&mut self) {
        self.keep(1);
        if self.peek(0) == Some('\\') {
            self.blank(2);
            while self.peek(0).is_some_and(|char| char != '\'') {
                self.blank(1);
            }
            self.keep(1);
        } else if self.peek(1) == Some('\'') {
            self.blank(1);
            self.keep(1);
        }
    }

    /// Whether the `r` here begins a raw string rather than ending a name or marking a raw identifier.
    fn starts_literal(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).and_then(|at| self.chars.get(at));
        let in_name =
            |char: Option<&char>| char.is_some_and(|char| char.is_alphanumeric() || *char == '_');
        let free = match before(1) {
            Some('b' | 'c') => !in_name(before(2)),
            other => !in_name(other),
        };
        let hashes = self.hashes();
        free && self.peek(1 + hashes) == Some('"')
    }

    fn hashes(&self) -> usize {
        (1..)
            .take_while(|&ahead| self.peek(ahead) == Some('#'))
            .count()
    }

    fn raw_string(&mut self) {
        let hashes = self.hashes();
        self.keep(2 + hashes);
        while let Some(char) = self.peek(0) {
            let closes = char == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#'));
            if closes {
                self.keep(1 + hashes);
                return;
            }
            self.blank(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::code_only;

    #[test]
    fn comments_and_literals_are_blanked() {
        let cases = [
            ("a // todo!()\nb", "a           \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            (r#"f("todo!()")"#, r#"f("       ")"#),
            (r#""a\"b" c"#, r#""    " c"#),
            ("r#\"a\"b\"# c", "r#\"   \"# c"),
            (r#"br"\" c"#, r#"br" " c"#),
            ("'\"' x", "' ' x"),
            (r"'\'' x", "'  ' x"),
            ("&'a str", "&'a str"),
            ("r#type", "r#type"),
            ("bar\"x\"", "bar\" \""),
        ];
        for (text, expected) in cases {
            assert_eq!(code_only(text), expected, "{text}");
        }
    }

    #[test]
    fn text_that_ends_too_early_is_survived() {
        for text in ["\"", "'", "'\\", "r#\"", "/*", "\"\\", "br##\"x\"#"] {
            assert_eq!(code_only(text).chars().count(), text.chars().count());
        }
    }
}
