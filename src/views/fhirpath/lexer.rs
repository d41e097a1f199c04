//! FHIRPath text into tokens.

/// One word, sign or literal of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// An identifier or a word operator.
    Word(String),
    /// `` `name` ``: an identifier whatever it says.
    Quoted(String),
    Text(String),
    Integer(String),
    Decimal(String),
    Date(String),
    DateTime(String),
    Time(String),
    Constant(String),
    /// `$this` and its like, without the `$`.
    Special(String),
    Sign(&'static str),
}

/// Two letters before one: the longest sign wins.
const SIGNS: &[&str] = &[
    "!=", "!~", "<=", ">=", "{", "}", "(", ")", "[", "]", ".", ",", "=", "~", "<", ">", "|", "+", "-", "&",
    "*", "/",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut rest = text.trim_start();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            'A'..='Z' | 'a'..='z' | '_' => {
                let (word, after) = word(rest);
                (Token::Word(word.to_owned()), after)
            }
            '0'..='9' => number(rest),
            '\'' => delimited(rest, '\'').map(|(text, after)| (Token::Text(text), after))?,
            '`' => delimited(rest, '`').map(|(name, after)| (Token::Quoted(name), after))?,
            '%' => constant(&rest[1..])?,
            '$' => {
                let (word, after) = word(&rest[1..]);
                (Token::Special(word.to_owned()), after)
            }
            '@' => moment(&rest[1..])?,
            _ => sign(rest, first)?,
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|letter| !keep(letter)).unwrap_or(text.len()))
}

fn word(text: &str) -> (&str, &str) {
    split_while(text, |letter| letter.is_ascii_alphanumeric() || letter == '_')
}

fn number(text: &str) -> (Token, &str) {
    let (whole, after) = split_while(text, |letter| letter.is_ascii_digit());
    let fraction = after.strip_prefix('.').map(|after| split_while(after, |letter| letter.is_ascii_digit()));
    match fraction {
        // `1.toString()` is an integer and a call.
        Some((digits, after)) if !digits.is_empty() => (Token::Decimal(format!("{whole}.{digits}")), after),
        _ => (Token::Integer(whole.to_owned()), after),
    }
}

fn constant(text: &str) -> Result<(Token, &str), String> {
    let quote = text.chars().next().filter(|first| ['`', '\''].contains(first));
    let (name, after) = if let Some(quote) = quote {
        delimited(text, quote)?
    } else {
        let (name, after) = word(text);
        (name.to_owned(), after)
    };
    if name.is_empty() {
        return Err("a `%` without a constant's name after it".to_owned());
    }
    Ok((Token::Constant(name), after))
}

fn sign(text: &str, first: char) -> Result<(Token, &str), String> {
    let found = SIGNS.iter().find_map(|sign| text.strip_prefix(sign).map(|after| (Token::Sign(sign), after)));
    found.ok_or_else(|| format!("`{first}` is not FHIRPath"))
}

/// The text between quotes, its escapes resolved, and what comes after it.
fn delimited(text: &str, quote: char) -> Result<(String, &str), String> {
    let mut content = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            return Ok((content, &text[at + letter.len_utf8()..]));
        }
        if letter != '\\' {
            content.push(letter);
            continue;
        }
        let escaped = match letters.next().map(|(_, escaped)| escaped) {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('f') => '\u{c}',
            Some('u') => {
                let digits: String = letters.by_ref().take(4).map(|(_, digit)| digit).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                code.and_then(char::from_u32).ok_or_else(|| format!("`\\u{digits}` is not a character"))?
            }
            Some(plain @ ('\'' | '"' | '`' | '\\' | '/')) => plain,
            _ => return Err("an unknown escape in a text".to_owned()),
        };
        content.push(escaped);
    }
    Err(format!("a text that begins with {quote} does not end"))
}

/// A date, dateTime or time literal, after its `@`.
fn moment(text: &str) -> Result<(Token, &str), String> {
    let (written, _) = split_while(text, |letter| letter.is_ascii_digit() || "-T:.+Z".contains(letter));
    // `@2020-01-01.toString()`: the dot is part of a moment only after seconds.
    let written = written.trim_end_matches('.');
    let after = &text[written.len()..];
    let refused = || format!("`@{written}` is not a date, a dateTime or a time");
    if let Some(time) = written.strip_prefix('T') {
        return if is_time(time) { Ok((Token::Time(time.to_owned()), after)) } else { Err(refused()) };
    }
    match written.split_once('T') {
        None if is_date(written) => Ok((Token::Date(written.to_owned()), after)),
        // `@2020T` is a dateTime of a year's precision.
        Some((date, "")) if is_date(date) => Ok((Token::DateTime(date.to_owned()), after)),
        Some((date, time)) if is_date(date) && is_zoned_time(time) => {
            Ok((Token::DateTime(written.to_owned()), after))
        }
        _ => Err(refused()),
    }
}

/// `0` stands for any digit.
fn fits(text: &str, shape: &str) -> bool {
    let same = |(letter, wanted): (u8, u8)| {
        if wanted == b'0' { letter.is_ascii_digit() } else { letter == wanted }
    };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(same)
}

fn is_date(text: &str) -> bool {
    ["0000", "0000-00", "0000-00-00"].into_iter().any(|shape| fits(text, shape))
}

fn is_time(text: &str) -> bool {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole = ["00", "00:00", "00:00:00"].into_iter().any(|shape| fits(seconds, shape));
    whole && !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_zoned_time(text: &str) -> bool {
    if let Some(time) = text.strip_suffix('Z') {
        return is_time(time);
    }
    match text.rfind(['+', '-']) {
        Some(at) => is_time(&text[..at]) && fits(&text[at + 1..], "00:00"),
        None => is_time(text),
    }
}
