//! The story that an example tells is told to its end.

#[path = "../../examples/grow.rs"]
mod grow;

#[tokio::test]
async fn a_cluster_within_one_program_grows_and_goes_on_without_its_first_member() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = grow::story(folder.path()).await;
    let shown = shown.unwrap_or_else(|why| panic!("the story ends early: {why}"));
    let records = ["alone", "of three", "without the first"].map(str::to_owned);
    assert_eq!(shown, [records.clone(), records]);
}
