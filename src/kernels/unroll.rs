//! Unrolls loops in the text of a shader, for drivers whose compilers do not. Without unrolling, such a compiler
//! keeps register tiles in memory, because the indices of their elements are not known to it.

use std::collections::HashMap;

/// The most copies of a body in nested loops. With unlimited copies SwiftShader's compiler takes more than 12 GB of
/// memory for some kernels.
const MOST: u32 = 64;

/// Replaces each loop `for (var NAME = 0u; NAME < BOUND; NAME++)` by copies of its body, if the bound is a constant
/// and there are at most 64 copies. Loops that contain `break` or `continue` stay.
pub(super) fn unrolled(text: &str) -> String {
    let text: String =
        text.lines().flat_map(|line| [line.split("//").next().unwrap_or(line), "\n"]).collect();
    let mut constants = HashMap::new();
    let mut found = usize::MAX;
    // A constant may be declared after those that depend on it.
    while constants.len() != found {
        found = constants.len();
        for declaration in text.split(';').filter_map(|statement| statement.trim().strip_prefix("const ")) {
            let Some((name, value)) = declaration.split_once('=') else { continue };
            let name = name.split(':').next().unwrap_or(name).trim();
            if let Some(value) = Expression::value(value, &constants) {
                constants.insert(name, value);
            }
        }
    }
    let mut out = String::with_capacity(4 * text.len());
    unroll(&text, &constants, MOST, &mut out);
    out
}

fn unroll(mut text: &str, constants: &HashMap<&str, u32>, most: u32, out: &mut String) {
    while let Some(at) = text.find("for (") {
        out.push_str(&text[..at]);
        text = &text[at..];
        let Some(counted) = Counted::parse(text, constants).filter(|counted| counted.count <= most) else {
            out.push_str("for (");
            text = &text["for (".len()..];
            continue;
        };
        for i in 0..counted.count {
            out.push_str(&format!("{{ let {} = {i}u;", counted.name));
            unroll(counted.body, constants, most / counted.count, out);
            out.push('}');
        }
        text = counted.rest;
    }
    out.push_str(text);
}

/// A loop over constant indices.
struct Counted<'a> {
    name: &'a str,
    count: u32,
    body: &'a str,
    /// The text after the loop.
    rest: &'a str,
}

impl<'a> Counted<'a> {
    /// Parses the loop at the beginning of `text`.
    fn parse(text: &'a str, constants: &HashMap<&str, u32>) -> Option<Self> {
        let (name, tail) = text.strip_prefix("for (var ")?.split_once(" = 0u; ")?;
        let (bound, tail) = tail.strip_prefix(name)?.strip_prefix(" < ")?.split_once("; ")?;
        let tail = tail.strip_prefix(name)?.strip_prefix("++) {")?;
        let count = Expression::value(bound, constants)?;
        let mut depth = 1;
        let end = tail.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        })?;
        let (body, rest) = (&tail[..end], &tail[end + 1..]);
        let leaves = ["break", "continue"].iter().any(|jump| body.contains(jump));
        (!leaves).then_some(Self { name, count, body, rest })
    }
}

/// An expression of unsigned constants, as shaders declare them.
struct Expression<'a, 'c> {
    rest: &'a str,
    constants: &'c HashMap<&'c str, u32>,
}

impl Expression<'_, '_> {
    /// Returns the value, unless the expression has an unknown name or an operator that is not supported.
    fn value(text: &str, constants: &HashMap<&str, u32>) -> Option<u32> {
        let mut expression = Expression { rest: text, constants };
        let value = expression.comparison()?;
        expression.rest.trim().is_empty().then_some(value)
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// One or zero if there is a comparison.
    fn comparison(&mut self) -> Option<u32> {
        let left = self.sum()?;
        if self.take("==") {
            return Some((left == self.sum()?).into());
        }
        if self.take("<") { Some((left < self.sum()?).into()) } else { Some(left) }
    }

    fn sum(&mut self) -> Option<u32> {
        let mut sum = self.product()?;
        loop {
            if self.take("+") {
                sum = sum.checked_add(self.product()?)?;
            } else if self.take("-") {
                sum = sum.checked_sub(self.product()?)?;
            } else {
                return Some(sum);
            }
        }
    }

    fn product(&mut self) -> Option<u32> {
        let mut product = self.term()?;
        loop {
            if self.take("*") {
                product = product.checked_mul(self.term()?)?;
            } else if self.take("/") {
                product = product.checked_div(self.term()?)?;
            } else if self.take("%") {
                product = product.checked_rem(self.term()?)?;
            } else {
                return Some(product);
            }
        }
    }

    fn term(&mut self) -> Option<u32> {
        if self.take("(") {
            let value = self.comparison()?;
            return self.take(")").then_some(value);
        }
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if word == "select" {
            self.take("(").then_some(())?;
            let no = self.comparison()?;
            self.take(",").then_some(())?;
            let yes = self.comparison()?;
            self.take(",").then_some(())?;
            let value = if self.comparison()? == 1 { yes } else { no };
            return self.take(")").then_some(value);
        }
        self.constants.get(word).copied().or_else(|| word.strip_suffix('u')?.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_over_constants_become_copies() {
        let text = "const N: u32 = M - 1u; const M: u32 = 3u; // const M = 9u;\n\
                    fn f() {\n    for (var i = 0u; i < N; i++) {\n        for (var j = 0u; j < 1u; j++) { a[i][j] = 0.0; }\n    }\n    b();\n}";
        let body = |i: u32| format!("{{ let i = {i}u;\n        {{ let j = 0u; a[i][j] = 0.0; }}\n    }}");
        let unrolled = unrolled(text);
        assert!(unrolled.contains(&(body(0) + &body(1) + "\n    b();\n}")), "{unrolled}");
    }

    #[test]
    fn other_loops_stay() {
        for header in [
            "for (var i = 0u; i < params.n; i++) {}",
            "for (var i = 0u; i < MANY; i++) {}",
            "for (var i = 1u; i < 4u; i++) {}",
            "for (var i = 0u; i < 4u; i += 2u) {}",
            "for (var i = 0u; i < 4u; i++) { if (a) { continue; } }",
        ] {
            let text = format!("const MANY = 65u;\nfn f() {{ {header} }}\n");
            assert_eq!(unrolled(&text), text);
        }
    }

    #[test]
    fn constants_are_computed_as_in_wgsl() {
        let constants = HashMap::from([("STRIDE", 2), ("KERNEL", 3)]);
        for (text, value) in [
            ("(8u - 1u) * STRIDE + KERNEL % 2u", Some(15)),
            ("select(1u, KERNEL * KERNEL, KERNEL < 4u)", Some(9)),
            ("select(1u, STRIDE, KERNEL == 1u)", Some(1)),
            ("STRIDE - KERNEL", None),
            ("KERNEL / 0u", None),
            ("1.0", None),
            ("UNKNOWN", None),
        ] {
            assert_eq!(Expression::value(text, &constants), value, "{text}");
        }
    }
}
