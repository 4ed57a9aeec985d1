//! Schemas by example: what fits, what does not, and what is said of it.

use serde_json::{Value, json};

use super::ValueSchema;

#[track_caller]
fn hold(schema: Value, fitting: &[Value], others: &[(Value, &str)]) {
    let schema = ValueSchema::read(&schema).expect("a schema");
    for value in fitting {
        assert_eq!(schema.check(value), Ok(()), "{value}");
    }
    for (value, said) in others {
        let misfit = schema.check(value).expect_err(&value.to_string());
        assert!(misfit.to_string().contains(said), "{value}: {misfit}");
    }
}

#[test]
fn every_type_takes_its_own_and_nothing_else() {
    for (word, own) in [
        ("null", json!(null)),
        ("boolean", json!(true)),
        ("object", json!({})),
        ("array", json!([])),
        ("number", json!(1.5)),
        ("string", json!("x")),
        ("integer", json!(3)),
    ] {
        let schema = ValueSchema::read(&json!({"type": word})).expect("a schema");
        for value in [
            json!(null),
            json!(true),
            json!({}),
            json!([]),
            json!(1.5),
            json!("x"),
        ] {
            assert_eq!(schema.check(&value).is_ok(), value == own, "{word} {value}");
        }
        assert_eq!(schema.check(&own), Ok(()));
    }
    hold(
        json!({"type": ["integer", "null"]}),
        &[json!(1.0), json!(null)],
        &[(json!("1"), "must be integer or null, not \"1\"")],
    );
}

#[test]
fn an_object_is_told_all_that_is_wrong_with_it_by_the_place() {
    hold(
        json!({
            "type": "object",
            "required": ["ok", "files"],
            "properties": {
                "ok": {"type": "boolean"},
                "files": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            },
            "additionalProperties": false,
        }),
        &[json!({"ok": true, "files": ["a"]})],
        &[
            (json!({"files": ["a"]}), "the value lacks `ok`"),
            (
                json!({"ok": "yes", "files": ["", 7]}),
                "/ok must be boolean",
            ),
            (
                json!({"ok": "yes", "files": ["", 7]}),
                "/files/0 must have at least 1 letters",
            ),
            (
                json!({"ok": "yes", "files": ["", 7]}),
                "/files/1 must be string, not 7",
            ),
            (
                json!({"ok": true, "files": ["a"], "x": 1}),
                "must not have `x`",
            ),
        ],
    );
}

#[test]
fn words_about_numbers_texts_and_lists_are_kept_to() {
    hold(
        json!({"minimum": 1, "exclusiveMaximum": 3, "multipleOf": 0.5}),
        &[json!(1), json!(2.5), json!("no number")],
        &[
            (json!(0), "at least 1"),
            (json!(3.0), "less than 3"),
            (json!(1.2), "multiple of 0.5"),
        ],
    );
    hold(
        json!({"pattern": "^[a-z]+-\\d+$", "maxLength": 5}),
        &[json!("ab-12"), json!(7)],
        &[
            (json!("ab12"), "must match"),
            (json!("äää-12"), "at most 5 letters, not 6"),
        ],
    );
    hold(
        json!({"prefixItems": [{"const": "v1"}], "items": {"type": "integer"}, "uniqueItems": true, "contains": {"minimum": 9}}),
        &[json!(["v1", 1, 9])],
        &[
            (json!(["v2", 9]), "/0 must be \"v1\""),
            (json!(["v1", "x", 9]), "/1 must be integer"),
            (json!(["v1", 9, 9.0]), "twice"),
        ],
    );
    let tuple = json!({"items": [{"type": "string"}], "additionalItems": false, "maxItems": 2});
    hold(
        tuple,
        &[json!(["a"])],
        &[(json!(["a", 1]), "/1 must not be there")],
    );
    hold(
        json!({"enum": ["red", 1, null, {"a": [1]}]}),
        &[json!("red"), json!(1.0), json!(null), json!({"a": [1]})],
        &[(json!("blue"), "one of \"red\", 1, null")],
    );
}

#[test]
fn keys_may_depend_on_patterns_and_on_each_other() {
    hold(
        json!({
            "patternProperties": {"^n_": {"type": "number"}},
            "additionalProperties": {"type": "string"},
            "propertyNames": {"maxLength": 4},
            "dependentRequired": {"a": ["b"]},
            "dependentSchemas": {"c": {"required": ["n_1"]}},
            "minProperties": 1,
        }),
        &[json!({"n_1": 1, "x": "y"}), json!({"a": "", "b": ""})],
        &[
            (json!({}), "at least 1 keys"),
            (json!({"n_1": "1"}), "/n_1 must be number"),
            (json!({"x": 1}), "/x must be string"),
            (json!({"toolong": "x"}), "a key like `toolong`"),
            (json!({"a": ""}), "has `a` and lacks `b`"),
            (json!({"c": ""}), "lacks `n_1`"),
        ],
    );
}

#[test]
fn schemas_are_joined_chosen_turned_round_and_named() {
    hold(
        json!({"anyOf": [{"type": "string"}, {"minimum": 5}], "not": {"const": 7}}),
        &[json!("x"), json!(5)],
        &[
            (json!(4), "none of `anyOf`"),
            (json!(7), "what `not` forbids"),
        ],
    );
    hold(
        json!({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}),
        &[json!(2), json!(9)],
        &[(json!(6), "fits 2 of"), (json!(5), "fits 0 of")],
    );
    hold(
        json!({"if": {"required": ["why"]}, "then": {"required": ["who"]}, "else": {"maxProperties": 0}}),
        &[json!({"why": 1, "who": 2}), json!({})],
        &[
            (json!({"why": 1}), "lacks `who`"),
            (json!({"x": 1}), "at most 0"),
        ],
    );
    hold(
        json!({
            "$ref": "#/$defs/tree",
            "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}, "required": ["n"]}},
        }),
        &[json!({"n": 1, "left": {"n": 2}})],
        &[(json!({"n": 1, "left": {}}), "/left lacks `n`")],
    );
    hold(json!(true), &[json!(null)], &[]);
    hold(json!(false), &[], &[(json!(1), "must not be there")]);
}

#[test]
fn what_is_no_schema_or_would_not_be_kept_to_is_refused_with_its_place() {
    for (schema, said) in [
        (json!("object"), "a schema is an object"),
        (json!({"type": "objekt"}), "/type: must be of null, boolean"),
        (
            json!({"properties": {"a": 7}}),
            "/properties/a: a schema is",
        ),
        (
            json!({"items": {"minLength": -1}}),
            "/items/minLength: must be a whole number",
        ),
        (json!({"pattern": "(?<=x)y"}), "not understood"),
        (json!({"$ref": "https://example.com/s"}), "leads nowhere"),
        (json!({"$ref": "#/$defs/x"}), "leads nowhere"),
        (json!({"unevaluatedProperties": false}), "is not known here"),
        (json!({"exclusiveMinimum": true}), "must be a number"),
    ] {
        let refused = ValueSchema::read(&schema).expect_err(&schema.to_string());
        assert!(refused.contains(said), "{schema}: {refused}");
    }
    let titled = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "x", "format": "date", "x-y": 1});
    assert!(ValueSchema::read(&titled).is_ok());
}

#[test]
fn a_schema_without_an_end_ends_the_check_and_not_the_thread() {
    hold(
        json!({"$ref": "#"}),
        &[],
        &[(json!(1), "takes too long to check")],
    );
    let wide = json!({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}}});
    hold(wide, &[], &[(json!(1), "takes too long")]);
}
