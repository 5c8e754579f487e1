pub struct Embedded {
    pub name: &'static str,
    pub about: &'static str,
    pub text: &'static str,
}
pub fn all() -> &'static [Embedded] {
    &[]
}
pub fn embedded(name: &str) -> Option<&'static str> {
    all().iter().find(|b| b.name == name).map(|b| b.text)
}
