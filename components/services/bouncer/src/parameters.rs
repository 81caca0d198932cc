use crate::{Direction, Error, Exemplars, Host, Prompt};

/// What the community has set.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// What it finds bad and fine.
    pub exemplars: Exemplars,
    /// Their direction, if it was computed beforehand.
    pub direction: Option<Direction>,
    /// A message below it is allowed.
    pub threshold_allow: f32,
    /// A message from it on is blocked; at least `threshold_allow`.
    pub threshold_block: f32,
    /// What the language model is asked, if it is.
    pub opinion: Option<Opinion>,
}

/// The language model's part.
#[derive(Debug, Clone)]
pub struct Opinion {
    /// What it reads before the message.
    pub prompt: Prompt,
    /// What its opinion is multiplied with before it's added to the score; 0 shows it beside the verdict only.
    pub weight: f32,
}

impl Parameters {
    /// Reads them from the manifest.
    ///
    /// # Errors
    /// [`Error::NoParameter`], [`Error::Parameter`], [`Error::ExemplarCount`].
    pub fn load(host: &impl Host) -> Result<Self, Error> {
        let exemplars = required(host, "exemplars")?;
        let direction = host.parameter("direction");
        let direction = direction.map(|text| Direction::parse(&text, &exemplars)).transpose()?;
        let parameters = Self {
            exemplars: Exemplars::parse(&exemplars)?,
            direction: direction.flatten(),
            threshold_allow: number(host, "threshold_allow")?,
            threshold_block: number(host, "threshold_block")?,
            opinion: opinion(host)?,
        };
        if parameters.threshold_block < parameters.threshold_allow {
            let reason = format!("it's below threshold_allow, {}", parameters.threshold_allow);
            return Err(Error::Parameter { name: "threshold_block", reason });
        }
        Ok(parameters)
    }
}

fn opinion(host: &impl Host) -> Result<Option<Opinion>, Error> {
    match required(host, "opinion")?.trim() {
        "off" => Ok(None),
        "on" => {
            let prompt = Prompt::parse(&required(host, "prompt")?)?;
            Ok(Some(Opinion { prompt, weight: number(host, "opinion_weight")? }))
        }
        other => {
            let reason = format!("{other:?} is neither \"on\" nor \"off\"");
            Err(Error::Parameter { name: "opinion", reason })
        }
    }
}

fn required(host: &impl Host, name: &'static str) -> Result<String, Error> {
    host.parameter(name).ok_or(Error::NoParameter { name })
}

fn number(host: &impl Host, name: &'static str) -> Result<f32, Error> {
    let text = required(host, name)?;
    let number = text.trim().parse().ok().filter(|number: &f32| number.is_finite());
    number.ok_or_else(|| Error::Parameter { name, reason: format!("{text:?} isn't a number") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Native;

    const COMPLETE: [(&str, &str); 4] = [
        ("exemplars", "bad = ['a']\nfine = ['b']"),
        ("threshold_allow", "-0.01"),
        ("threshold_block", "0.02"),
        ("opinion", "off"),
    ];

    fn load(changes: &[(&str, &str)]) -> Result<Parameters, Error> {
        let all = COMPLETE.iter().chain(changes).filter(|(_, value)| !value.is_empty());
        let parameters = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Parameters::load(&Native { parameters: parameters.collect(), ..Native::default() })
    }

    #[test]
    fn thresholds_are_finite_and_in_order() {
        let parameters = load(&[]).unwrap();
        assert_eq!((parameters.threshold_allow, parameters.threshold_block), (-0.01, 0.02));
        for wrong in ["-0.02", "NaN", "inf", "high"] {
            let error = load(&[("threshold_block", wrong)]).unwrap_err();
            assert!(matches!(error, Error::Parameter { name: "threshold_block", .. }), "{error}");
            assert!(error.is_the_owners());
        }
    }

    #[test]
    fn opinion_needs_a_prompt_and_a_weight() {
        let prompt = ("prompt", "rude = 'Rude:'\nnormal = 'Normal:'");
        assert!(load(&[("opinion", "on")]).is_err());
        assert!(load(&[("opinion", "on"), prompt]).is_err());
        let loaded = load(&[("opinion", "on"), prompt, ("opinion_weight", "0")]).unwrap();
        assert!(loaded.opinion.is_some_and(|opinion| opinion.weight == 0.0));
        assert!(load(&[("opinion", "perhaps")]).is_err());
    }

    #[test]
    fn direction_of_other_exemplars_is_not_used() {
        let stale = "exemplars = \"00\"\nnumbers = \"\"";
        assert_eq!(load(&[("direction", stale)]).unwrap().direction, None);
    }
}
