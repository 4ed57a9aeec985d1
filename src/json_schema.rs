//! What a value must look like: JSON Schema, without what would need a network or a library of a megabyte. Pure.
//!
//! Known are, with the meaning of draft 2020-12 (and what draft 7 says of tuples): `type`, `enum`, `const`, `properties`,
//! `required`, `additionalProperties`, `patternProperties`, `propertyNames`, `minProperties`, `maxProperties`,
//! `dependentRequired`, `dependentSchemas`, `items`, `prefixItems`, `additionalItems`, `contains`, `minContains`,
//! `maxContains`, `minItems`, `maxItems`, `uniqueItems`, `minLength`, `maxLength`, `pattern`, the five bounds of numbers,
//! `allOf`, `anyOf`, `oneOf`, `not`, `if` with `then` and `else`, and `$ref` within the schema (`#`, `#/$defs/…`). Words that
//! would forbid something and are not known are refused; `format`, titles and whatever else forbids nothing is passed over.

mod check;
mod keywords;
mod places;

use serde_json::Value;

pub use check::Misfit;

/// A schema that can be checked against.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueSchema(Value);

impl ValueSchema {
    /// Reads a schema.
    ///
    /// # Errors
    /// One sentence: where it is none, or what in it is not known here.
    pub fn read(schema: &Value) -> Result<Self, String> {
        keywords::judge(schema, schema, "", 0)?;
        Ok(Self(schema.clone()))
    }

    /// Checks a value.
    ///
    /// # Errors
    /// What does not fit, all of it up to a number that can still be read.
    pub fn check(&self, value: &Value) -> Result<(), Misfit> {
        check::check(&self.0, value)
    }
}

#[cfg(test)]
mod tests;
