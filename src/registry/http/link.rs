//! `Link` headers of lists (RFC 8288), also in the forms that registries send and the RFC does not have.
//!
//! A list that has another page must not end without it: a header is followed, says that it is about something else, or
//! is an error.

/// Returns the target of the next page that the `Link` headers of one answer name. `values` are the headers; nothing
/// stands for one that is not text.
///
/// A link without a relation is the next page, since lists have no other links. A target may stand without its angle
/// brackets.
///
/// # Errors
/// What is wrong, to stand after `its list `.
pub(crate) fn next_page<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Result<Option<&'a str>, &'static str> {
    let mut links = Vec::new();
    for value in values {
        read(value.ok_or("has a Link header that is not text")?, &mut links)?;
    }
    let of = |wanted: Relation| {
        let mut targets = links.iter().filter(move |link| link.relation == wanted).map(|link| link.target);
        let first = targets.next();
        match targets.any(|target| Some(target) != first) {
            true => Err("has Link headers with several next pages"),
            false => Ok(first),
        }
    };
    match of(Relation::Next)? {
        Some(target) => Ok(Some(target)),
        None => of(Relation::Unstated),
    }
}

/// One link of a header.
struct Link<'a> {
    target: &'a str,
    relation: Relation,
}

/// What a link is to the answer that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Next,
    /// Its `rel` names only other relations, such as `prev`.
    Other,
    /// It has no `rel`, or an empty one.
    Unstated,
}

fn read<'a>(value: &'a str, links: &mut Vec<Link<'a>>) -> Result<(), &'static str> {
    let mut rest = value.trim_start_matches(SEPARATORS);
    while !rest.is_empty() {
        let (target, after) = match rest.strip_prefix('<') {
            Some(inner) => inner.split_once('>').ok_or("has a Link header without an end")?,
            // Some registries leave the brackets out; skopeo reads that, too.
            None => rest.split_at(bare_end(rest)),
        };
        let (parameters, after) = after.split_at(parameters_end(after));
        links.push(Link { target: target.trim(), relation: relation(parameters) });
        rest = after.trim_start_matches(SEPARATORS);
    }
    Ok(())
}

fn relation(parameters: &str) -> Relation {
    let named = split_outside_quotes(parameters, ';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']).trim();
        (name.trim().eq_ignore_ascii_case("rel") && !value.is_empty()).then_some(value)
    });
    match named {
        None => Relation::Unstated,
        Some(relations) if relations.split_whitespace().any(|rel| rel.eq_ignore_ascii_case("next")) => Relation::Next,
        Some(_) => Relation::Other,
    }
}

/// Where a target without angle brackets ends: at its parameters, or at the comma before another link. A comma inside a
/// query has no space behind it.
fn bare_end(text: &str) -> usize {
    let ends = |at: usize, c: char| {
        let next = text[at + c.len_utf8()..].chars().next();
        c == ';' || c == ',' && next.is_none_or(|next| next.is_whitespace() || next == '<')
    };
    text.char_indices().find(|(at, c)| ends(*at, *c)).map_or(text.len(), |(at, _)| at)
}

/// Where the comma stands that separates this link from the next.
fn parameters_end(text: &str) -> usize {
    let mut quoted = false;
    text.find(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .unwrap_or(text.len())
}

fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// What may stand between links.
const SEPARATORS: [char; 3] = [',', ' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("</v2/a/tags/list?n=1&last=b>; rel=\"next\"", Some("/v2/a/tags/list?n=1&last=b"))]
    #[case("<x>;rel=next", Some("x"))]
    #[case("<x>; rel='next'", Some("x"))]
    #[case("<x>; REL = \"NEXT\"", Some("x"))]
    #[case("<p>; rel=prev, <https://h/n?a=1,2>; title=\"a, <b>; c\"; rel=\"last NEXT\"", Some("https://h/n?a=1,2"))]
    #[case("<p>; rel=\"prev\"", None)]
    #[case("/p; rel='first'", None)]
    #[case::without_brackets("/v2/a/tags/list?last=t099&n=100; rel=\"next\"", Some("/v2/a/tags/list?last=t099&n=100"))]
    #[case::several_without_brackets("/p; rel=prev, /n?a=1,2; rel=next", Some("/n?a=1,2"))]
    #[case::without_relation("<x>", Some("x"))]
    #[case::with_another_parameter("<x>; title=\"rel=prev\"", Some("x"))]
    #[case::with_an_empty_relation("<x>; rel=\"\"", Some("x"))]
    #[case::a_bare_url("https://h/v2/a/tags/list?last=b", Some("https://h/v2/a/tags/list?last=b"))]
    #[case::the_stated_one("<x>, <y>; rel=next", Some("y"))]
    #[case::twice_the_same("<x>; rel=next, <x>; rel=next", Some("x"))]
    #[case("", None)]
    #[case(" , ", None)]
    fn the_next_page_is_found_in_every_form(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(next_page([Some(text)].into_iter()), Ok(expected));
    }

    #[rstest]
    #[case(&[Some("<p")], "without an end")]
    #[case(&[None], "not text")]
    #[case(&[Some("<x>; rel=next"), Some("<y>; rel=next")], "several")]
    #[case(&[Some("<x>, <y>")], "several")]
    fn a_header_that_is_not_understood_is_an_error(#[case] values: &[Option<&str>], #[case] reason: &str) {
        let error = next_page(values.iter().copied()).expect_err(reason);
        assert!(error.contains(reason), "{error}");
    }
}
