//! The text formats of Prometheus (0.0.4) and OpenMetrics (1.0.0), which differ in the names of counters, in units and in
//! the end. Pure: it knows no metric.

use std::fmt::Write;

use crate::sys::histogram::{BOUNDS_US, HistogramView};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpositionFormat {
    /// What every Prometheus reads.
    Text,
    /// Asked for by `Accept`.
    OpenMetrics,
}

impl ExpositionFormat {
    /// The one that an `Accept` header asks for.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        match accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    /// The answer's `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Labels, and the value that is told apart by them.
pub(crate) type LabelledValue<'a> = (&'a [(&'a str, &'a str)], f64);

/// A text under way, one family of metrics after the other.
pub(crate) struct Exposition {
    format: ExpositionFormat,
    text: String,
}

impl Exposition {
    pub(crate) fn new(format: ExpositionFormat) -> Self {
        Self {
            format,
            text: String::new(),
        }
    }

    /// A number that only grows. `name` ends in `_total`.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: f64) {
        let family = match self.format {
            ExpositionFormat::Text => name,
            ExpositionFormat::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
        };
        self.head(family, "counter", help);
        self.sample(name, &[], value);
    }

    /// A number that goes up and down; left out where it is not known.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            let bare: &[(&str, &str)] = &[];
            self.gauges(name, help, &[(bare, value)]);
        }
    }

    /// The same for several things, told apart by labels.
    pub(crate) fn gauges(&mut self, name: &str, help: &str, values: &[LabelledValue]) {
        self.head(name, "gauge", help);
        for (labels, value) in values {
            self.sample(name, labels, *value);
        }
    }

    /// Durations. `name` ends in `_seconds`.
    pub(crate) fn histogram(&mut self, name: &str, help: &str, view: &HistogramView) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, up_to) in BOUNDS_US.iter().zip(view.up_to) {
            // Both formats want the same spelling every time, and OpenMetrics a point in it.
            let bound = format!("{:?}", *bound as f64 / 1e6);
            self.sample(&bucket, &[("le", &bound)], up_to as f64);
        }
        self.sample(&bucket, &[("le", "+Inf")], view.count as f64);
        self.sample(&format!("{name}_sum"), &[], view.sum_secs);
        self.sample(&format!("{name}_count"), &[], view.count as f64);
    }

    /// The whole text.
    pub(crate) fn finish(mut self) -> String {
        if self.format == ExpositionFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn head(&mut self, family: &str, kind: &str, help: &str) {
        // Writing to memory cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {family} {help}");
        let _ = writeln!(self.text, "# TYPE {family} {kind}");
        let unit = ["seconds", "bytes"]
            .into_iter()
            .find(|unit| family.ends_with(&format!("_{unit}")));
        if let (ExpositionFormat::OpenMetrics, Some(unit)) = (self.format, unit) {
            let _ = writeln!(self.text, "# UNIT {family} {unit}");
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}
