//! The XML that S3 speaks: written whole, and read as far as two kinds of requests need it.

use std::collections::BTreeSet;

use super::S3Error;
use super::multipart::to_token;
use crate::s3::store::{S3Object, S3Store};

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Keys that one bulk delete may name, and parts that one completion may (S3's limits).
const LISTED: usize = 10_000;

/// An error document.
pub fn error(code: &str, message: &str, resource: &str) -> String {
    let fields = [("Code", code), ("Message", message), ("Resource", resource), ("RequestId", "twin")];
    format!("{HEAD}<Error>{}</Error>", elements(&fields))
}

/// Answer to `?location`.
pub fn location() -> String {
    document("LocationConstraint", "")
}

/// Answer to a begun upload.
pub fn upload_begun(bucket: &str, key: &str, id: &str) -> String {
    document("InitiateMultipartUploadResult", &elements(&[("Bucket", bucket), ("Key", key), ("UploadId", id)]))
}

/// Answer to a completed upload.
pub fn upload_completed(bucket: &str, key: &str, etag: &str) -> String {
    document("CompleteMultipartUploadResult", &elements(&[("Bucket", bucket), ("Key", key), ("ETag", etag)]))
}

/// Answer to a bulk delete.
pub fn deleted(keys: &[String]) -> String {
    let deleted = keys.iter().map(|key| format!("<Deleted>{}</Deleted>", elements(&[("Key", key)])));
    document("DeleteResult", &deleted.collect::<String>())
}

/// What a listing asks for.
pub struct Listing<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// Beginning of the keys.
    pub prefix: &'a str,
    /// What ends a folder's name; empty for none.
    pub delimiter: &'a str,
    /// Keys and folders per page.
    pub limit: usize,
    /// The token that this page was asked with.
    pub token: Option<&'a str>,
}

impl Listing<'_> {
    /// One page, beginning behind the key `after`.
    pub fn render(&self, store: &S3Store, after: String) -> Result<String, S3Error> {
        let Page { objects, folders, next } = self.page(store, after)?;
        let mut body = elements(&[
            ("Name", self.bucket),
            ("Prefix", self.prefix),
            ("KeyCount", &(objects.len() + folders.len()).to_string()),
            ("MaxKeys", &self.limit.to_string()),
            ("IsTruncated", if next.is_some() { "true" } else { "false" }),
        ]);
        if let Some(token) = self.token {
            body.push_str(&elements(&[("ContinuationToken", token)]));
        }
        if let Some(next) = next {
            body.push_str(&elements(&[("NextContinuationToken", &to_token(&next))]));
        }
        if !self.delimiter.is_empty() {
            body.push_str(&elements(&[("Delimiter", self.delimiter)]));
        }
        for (key, object) in &objects {
            let fields = [
                ("Key", key.as_str()),
                ("LastModified", &object.modified.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()),
                ("ETag", object.etag.as_str()),
                ("Size", &object.bytes.len().to_string()),
                ("StorageClass", "STANDARD"),
            ];
            body.push_str(&format!("<Contents>{}</Contents>", elements(&fields)));
        }
        for folder in &folders {
            body.push_str(&format!("<CommonPrefixes>{}</CommonPrefixes>", elements(&[("Prefix", folder)])));
        }
        Ok(document("ListBucketResult", &body))
    }

    /// The store is asked for whole pages: with a delimiter, the next begins behind the folder that was just found.
    fn page(&self, store: &S3Store, mut after: String) -> Result<Page, S3Error> {
        let mut page = Page { objects: Vec::new(), folders: BTreeSet::new(), next: None };
        loop {
            let asked = self.limit - page.len();
            let mut found = store.list(self.bucket, self.prefix, &after, asked + 1)?.into_iter().peekable();
            if found.peek().is_none() {
                return Ok(page);
            }
            while let Some((key, object)) = found.next() {
                if page.len() >= self.limit {
                    page.next = Some(after);
                    return Ok(page);
                }
                let folder = self.folder(&key);
                after = folder.as_ref().map_or_else(|| key.clone(), |folder| format!("{folder}{}", char::MAX));
                match folder {
                    Some(folder) => {
                        page.folders.insert(folder);
                        while found.next_if(|(key, _)| *key <= after).is_some() {}
                    }
                    None => page.objects.push((key, object)),
                }
            }
        }
    }

    fn folder(&self, key: &str) -> Option<String> {
        if self.delimiter.is_empty() {
            return None;
        }
        let end = key[self.prefix.len()..].find(self.delimiter)? + self.prefix.len() + self.delimiter.len();
        Some(key[..end].to_owned())
    }
}

struct Page {
    objects: Vec<(String, S3Object)>,
    folders: BTreeSet<String>,
    /// The last key that the page covers, when there is more behind it.
    next: Option<String>,
}

impl Page {
    fn len(&self) -> usize {
        self.objects.len() + self.folders.len()
    }
}

/// The keys of a bulk delete.
pub fn keys_to_delete(body: &[u8]) -> Result<Vec<String>, S3Error> {
    let keys = contents(std::str::from_utf8(body).map_err(|_| S3Error::MalformedXml)?, "Key")?;
    if keys.is_empty() { Err(S3Error::MalformedXml) } else { keys.into_iter().map(unescape).collect() }
}

/// Numbers and ETags of a completion, in the order given.
pub fn parts_to_complete(body: &[u8]) -> Result<Vec<(u32, String)>, S3Error> {
    let text = std::str::from_utf8(body).map_err(|_| S3Error::MalformedXml)?;
    let parts = contents(text, "Part")?.into_iter().map(|part| {
        let field = |name| contents(part, name)?.pop().ok_or(S3Error::MalformedXml);
        let number = field("PartNumber")?.trim().parse().map_err(|_| S3Error::MalformedXml)?;
        Ok((number, unescape(field("ETag")?)?.trim_matches('"').to_owned()))
    });
    parts.collect()
}

/// What stands between each `<name>` and `</name>`.
fn contents<'a>(mut text: &'a str, name: &str) -> Result<Vec<&'a str>, S3Error> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    while let Some((_, rest)) = text.split_once(&open) {
        let (inner, rest) = rest.split_once(&close).ok_or(S3Error::MalformedXml)?;
        found.push(inner);
        text = rest;
        if found.len() > LISTED {
            return Err(S3Error::MalformedXml);
        }
    }
    Ok(found)
}

fn document(name: &str, body: &str) -> String {
    format!("{HEAD}<{name} xmlns=\"{NAMESPACE}\">{body}</{name}>")
}

fn elements(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("<{name}>{}</{name}>", escape(value))).collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            control if (control as u32) < 0x20 => escaped.push_str(&format!("&#{};", control as u32)),
            other => escaped.push(other),
        }
    }
    escaped
}

fn unescape(text: &str) -> Result<String, S3Error> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        let (entity, after) = after.split_once(';').ok_or(S3Error::MalformedXml)?;
        plain.push_str(before);
        plain.push(character(entity).ok_or(S3Error::MalformedXml)?);
        rest = after;
    }
    plain.push_str(rest);
    Ok(plain)
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_key_survives_both_ways() {
        let key = "a&b<c>\"d\"\ré";
        assert_eq!(unescape(&escape(key)), Ok(key.to_owned()));
    }

    #[test]
    fn a_completion_is_read_in_its_order() {
        let body = b"<CompleteMultipartUpload><Part><ETag>&quot;b&quot;</ETag><PartNumber>2</PartNumber></Part>\
            <Part><PartNumber>1</PartNumber><ETag>a</ETag></Part></CompleteMultipartUpload>";
        assert_eq!(parts_to_complete(body), Ok(vec![(2, "b".to_owned()), (1, "a".to_owned())]));
        assert_eq!(parts_to_complete(b"<Part><PartNumber>1</PartNumber>"), Err(S3Error::MalformedXml));
    }
}
