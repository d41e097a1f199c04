//! Tokens into the tree, by the precedences of the FHIRPath grammar.

use super::lexer::{Token, tokens};
use super::{Expr, Operator, TypeOperator};

/// Longest expression, in bytes.
const LENGTH_MAX: usize = 10_000;

/// How deep parentheses, arguments and chains of steps may nest.
const DEPTH_MAX: usize = 60;

/// The tree of an expression, or what is wrong with it.
pub(in crate::views) fn parse(text: &str) -> Result<Expr, String> {
    if LENGTH_MAX < text.len() {
        return Err(format!("it is longer than {LENGTH_MAX} bytes"));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    if parser.tokens.is_empty() {
        return Err("it is empty".to_owned());
    }
    let expr = parser.binary(0)?;
    match parser.peek() {
        None => Ok(expr),
        Some(token) => Err(format!("{} is not expected here", shown(token))),
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(text) | Token::Quoted(text) => format!("`{text}`"),
        Token::Integer(text) | Token::Decimal(text) => format!("`{text}`"),
        Token::Date(text) | Token::DateTime(text) | Token::Time(text) => format!("`@{text}`"),
        Token::Text(text) => format!("'{text}'"),
        Token::Constant(name) => format!("`%{name}`"),
        Token::Special(name) => format!("`${name}`"),
        Token::Sign(sign) => format!("`{sign}`"),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) {
            return Ok(());
        }
        let found = self.peek().map_or("the end".to_owned(), shown);
        Err(format!("`{sign}` is expected before {found}"))
    }

    /// Counts one more level; the tree's depth is the builder's recursion.
    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if DEPTH_MAX < self.depth { Err(format!("it nests deeper than {DEPTH_MAX}")) } else { Ok(()) }
    }

    /// Operators that bind at least as tightly as `least`; all are left-associative.
    fn binary(&mut self, least: u8) -> Result<Expr, String> {
        let before = self.depth;
        self.deeper()?;
        let mut left = self.unary()?;
        while let Some((operator, strength)) =
            self.peek().and_then(operator_of).filter(|(_, found)| least <= *found)
        {
            self.deeper()?;
            self.at += 1;
            left = match operator {
                Infix::Type(operator) => {
                    let type_name = self.type_name()?;
                    Expr::Typed(Box::new(left), operator, Box::new(type_name))
                }
                Infix::Value(operator) => {
                    let right = self.binary(strength + 1)?;
                    Expr::Binary(Box::new(left), operator, Box::new(right))
                }
            };
        }
        self.depth = before;
        Ok(left)
    }

    fn type_name(&mut self) -> Result<Expr, String> {
        let Some(Token::Word(name) | Token::Quoted(name)) = self.next() else {
            return Err("a type's name is expected after `is` and `as`".to_owned());
        };
        let mut expr = Expr::Member(None, name);
        while self.takes(".") {
            let Some(Token::Word(name) | Token::Quoted(name)) = self.next() else {
                return Err("a type's name is expected after `.`".to_owned());
            };
            expr = Expr::Member(Some(Box::new(expr)), name);
        }
        Ok(expr)
    }

    fn unary(&mut self) -> Result<Expr, String> {
        if self.takes("-") {
            self.deeper()?;
            return Ok(Expr::Negative(Box::new(self.unary()?)));
        }
        if self.takes("+") {
            self.deeper()?;
            return self.unary();
        }
        self.chain()
    }

    /// A term and the steps and indexes that follow it.
    fn chain(&mut self) -> Result<Expr, String> {
        let before = self.depth;
        let mut expr = self.term()?;
        loop {
            if self.takes(".") {
                let Some(Token::Word(name) | Token::Quoted(name)) = self.next() else {
                    return Err("an element or a function is expected after `.`".to_owned());
                };
                expr = self.step(Some(expr), name)?;
            } else if self.takes("[") {
                let index = self.binary(0)?;
                self.expect("]")?;
                expr = Expr::Index(Box::new(expr), Box::new(index));
            } else {
                self.depth = before;
                return Ok(expr);
            }
            self.deeper()?;
        }
    }

    fn step(&mut self, base: Option<Expr>, name: String) -> Result<Expr, String> {
        let base = base.map(Box::new);
        if !self.takes("(") {
            return Ok(Expr::Member(base, name));
        }
        let mut arguments = Vec::new();
        if self.takes(")") {
            return Ok(Expr::Call(base, name, arguments));
        }
        loop {
            arguments.push(self.binary(0)?);
            if self.takes(")") {
                return Ok(Expr::Call(base, name, arguments));
            }
            self.expect(",")?;
        }
    }

    fn term(&mut self) -> Result<Expr, String> {
        let Some(token) = self.next() else {
            return Err("it ends where a value is expected".to_owned());
        };
        match token {
            Token::Word(word) if word == "true" => Ok(Expr::Boolean(true)),
            Token::Word(word) if word == "false" => Ok(Expr::Boolean(false)),
            Token::Word(name) | Token::Quoted(name) => self.step(None, name),
            Token::Text(text) if text.contains('\0') => Err("a text holds a NUL".to_owned()),
            Token::Text(text) => Ok(Expr::Text(text)),
            Token::Integer(digits) => self.without_unit(Expr::Integer(digits)),
            Token::Decimal(digits) => self.without_unit(Expr::Decimal(digits)),
            Token::Date(text) => Ok(Expr::Date(text)),
            Token::DateTime(text) => Ok(Expr::DateTime(text)),
            Token::Time(text) => Ok(Expr::Time(text)),
            Token::Constant(name) => Ok(Expr::Constant(name)),
            Token::Special(name) if name == "this" => Ok(Expr::This),
            Token::Special(name) => Err(format!("`${name}` is not supported, only `$this`")),
            Token::Sign("{") => self.expect("}").map(|()| Expr::Empty),
            Token::Sign("(") => {
                let expr = self.binary(0)?;
                self.expect(")")?;
                Ok(expr)
            }
            Token::Sign(sign) => Err(format!("`{sign}` stands where a value is expected")),
        }
    }

    /// A number followed by a unit is a quantity.
    fn without_unit(&self, number: Expr) -> Result<Expr, String> {
        let unit = match self.peek() {
            Some(Token::Text(unit)) => unit,
            Some(Token::Word(word)) if is_calendar_unit(word) => word,
            _ => return Ok(number),
        };
        Err(format!(
            "quantities with units (UCUM: '{unit}') are not supported: compare `.value` and `.code` instead"
        ))
    }
}

fn is_calendar_unit(word: &str) -> bool {
    let singular = word.strip_suffix('s').unwrap_or(word);
    ["year", "month", "week", "day", "hour", "minute", "second", "millisecond"].contains(&singular)
}

enum Infix {
    Value(Operator),
    Type(TypeOperator),
}

/// The operator a token is, and how tightly it binds.
fn operator_of(token: &Token) -> Option<(Infix, u8)> {
    let written = match token {
        Token::Word(word) => word.as_str(),
        Token::Sign(sign) => sign,
        _ => return None,
    };
    let (operator, strength) = match written {
        "implies" => (Operator::Implies, 0),
        "or" => (Operator::Or, 1),
        "xor" => (Operator::Xor, 1),
        "and" => (Operator::And, 2),
        "in" => (Operator::In, 3),
        "contains" => (Operator::Contains, 3),
        "=" => (Operator::Equal, 4),
        "!=" => (Operator::NotEqual, 4),
        "~" => (Operator::Equivalent, 4),
        "!~" => (Operator::NotEquivalent, 4),
        "<" => (Operator::Less, 5),
        "<=" => (Operator::LessOrEqual, 5),
        ">" => (Operator::Greater, 5),
        ">=" => (Operator::GreaterOrEqual, 5),
        "|" => (Operator::Union, 6),
        "is" => return Some((Infix::Type(TypeOperator::Is), 7)),
        "as" => return Some((Infix::Type(TypeOperator::As), 7)),
        "+" => (Operator::Add, 8),
        "-" => (Operator::Subtract, 8),
        "&" => (Operator::Concatenate, 8),
        "*" => (Operator::Multiply, 9),
        "/" => (Operator::Divide, 9),
        "div" => (Operator::Div, 9),
        "mod" => (Operator::Mod, 9),
        _ => return None,
    };
    Some((Infix::Value(operator), strength))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_calls_and_operators_nest_as_written() {
        let name = || Box::new(Expr::Member(None, "name".to_owned()));
        assert_eq!(parse("name.family").unwrap(), Expr::Member(Some(name()), "family".to_owned()));
        assert_eq!(parse("name.first()").unwrap(), Expr::Call(Some(name()), "first".to_owned(), vec![]));
        let Expr::Binary(_, Operator::Or, right) = parse("a = 1 or b and c").unwrap() else { unreachable!() };
        assert!(matches!(*right, Expr::Binary(_, Operator::And, _)));
    }

    #[test]
    fn what_is_not_fhirpath_is_refused_in_words() {
        for (text, says) in [
            ("@@", "not a date"),
            ("", "empty"),
            ("name.", "after `.`"),
            ("where(a", "`)`"),
            ("'abc", "does not end"),
            ("5 'mg'", "UCUM"),
            ("a b", "not expected"),
            ("@2020-13-1", "not a date"),
            ("%", "constant"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(
                refused.contains(says) || says == "`)`" && refused.contains("expected"),
                "{text}: {refused}"
            );
        }
        assert!(parse(&"(".repeat(5_000)).is_err());
        assert!(parse(&"-".repeat(5_000)).is_err());
    }

    #[test]
    fn moments_keep_their_precision() {
        assert_eq!(parse("@2020-05").unwrap(), Expr::Date("2020-05".to_owned()));
        assert_eq!(
            parse("@2020-05-01T10:00:00.5+02:00").unwrap(),
            Expr::DateTime("2020-05-01T10:00:00.5+02:00".to_owned())
        );
        assert_eq!(parse("@T10:00").unwrap(), Expr::Time("10:00".to_owned()));
    }
}
