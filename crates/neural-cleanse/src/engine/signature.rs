use ndarray::ArrayViewD;

use super::EngineError;

/// The named inputs and outputs of a compiled graph.
pub(super) struct Signature {
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<String>,
}

/// A declared input: its name and its size per axis, `None` for one that is not fixed.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) shape: Vec<Option<usize>>,
}

impl Signature {
    /// Checks that every input is given once with its declared shape and that the outputs exist.
    pub(super) fn check(&self, inputs: &[(&str, ArrayViewD<'_, f32>)], outputs: &[&str]) -> Result<(), EngineError> {
        let given: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
        check_distinct(&given)?;
        check_distinct(outputs)?;
        for (name, array) in inputs {
            let Some(declared) = self.inputs.iter().find(|input| input.name == *name) else {
                let known = self.inputs.iter().map(|input| input.name.clone()).collect();
                return Err(EngineError::UnknownInput { name: (*name).to_owned(), known });
            };
            declared.check(array.shape())?;
        }
        if let Some(missing) = self.inputs.iter().find(|input| !given.contains(&input.name.as_str())) {
            return Err(EngineError::MissingInput { name: missing.name.clone() });
        }
        match outputs.iter().find(|name| !self.outputs.iter().any(|output| output == *name)) {
            Some(name) => Err(EngineError::UnknownOutput { name: (*name).to_owned(), known: self.outputs.clone() }),
            None => Ok(()),
        }
    }
}

impl Input {
    fn check(&self, shape: &[usize]) -> Result<(), EngineError> {
        let agrees = self.shape.len() == shape.len()
            && self.shape.iter().zip(shape).all(|(declared, size)| declared.is_none_or(|declared| declared == *size));
        if agrees {
            return Ok(());
        }
        let sizes: Vec<String> =
            self.shape.iter().map(|size| size.map_or_else(|| "?".to_owned(), |size| size.to_string())).collect();
        Err(EngineError::InputShape {
            name: self.name.clone(),
            expected: format!("[{}]", sizes.join(", ")),
            found: shape.to_vec(),
        })
    }
}

fn check_distinct(names: &[&str]) -> Result<(), EngineError> {
    match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
        Some((_, name)) => Err(EngineError::NamedTwice { name: (*name).to_owned() }),
        None => Ok(()),
    }
}
