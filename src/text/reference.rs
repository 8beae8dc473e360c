//! The `tokenizers` library by itself: what an export is held to.

use super::token::TokenId;

/// The library's tokenizer of a `tokenizer.json` that this program wrote. On files of others it may panic.
pub struct Reference(tokenizers::Tokenizer);

impl Reference {
    /// # Errors
    /// If the library does not take the file.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let mut library = tokenizers::Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        // What a file says of these counts for batches of texts, and not for one.
        library.with_truncation(None).map_err(|error| error.to_string())?.with_padding(None);
        Ok(Self(library))
    }

    /// The ids of a text: with what the file puts around it if it is `whole`.
    ///
    /// # Errors
    /// If the library does not take the text.
    pub fn ids(&self, text: &str, whole: bool) -> Result<Vec<TokenId>, String> {
        let encoding = self.0.encode_fast(text, whole).map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().iter().map(|&id| TokenId(id)).collect())
    }
}
