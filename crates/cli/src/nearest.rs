//! "Did you mean": the known name nearest to a wrong one.

/// The nearest of `known`, if it is near enough to be meant.
pub(crate) fn nearest<T: AsRef<str>>(name: &str, known: impl IntoIterator<Item = T>) -> Option<T> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|other| (strsim::damerau_levenshtein(name, other.as_ref()), other))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        assert_eq!(
            nearest("gretings", ["orders", "greetings"]),
            Some("greetings")
        );
        assert_eq!(nearest("n4", ["n1", "n2"]), Some("n1"));
        assert_eq!(nearest("payments", ["orders", "greetings"]), None);
        assert_eq!(nearest("x", Vec::<String>::new()), None);
    }
}
