//! `--part`: which part of how many, as typed, or by what the scheduler of an array of tasks says in the environment.

use crate::cli::values::usage;
use crate::error::Result;
use crate::publish::part_number::PartNumber;

const FLAG: &str = "--part";
const ACCEPTED: &str = "I/N is accepted, with I from 0 and below N, or auto/N in an array of tasks";
/// Of a Slurm array: this task, the first, how many there are, and what lies between two.
const SLURM: [&str; 4] =
    ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_STEP"];
/// Of an Indexed Job in Kubernetes, which does not tell how many there are.
const KUBERNETES: &str = "JOB_COMPLETION_INDEX";

/// The part that `text` means, where `get` gives variables of the environment.
///
/// # Errors
/// [`RequestError::Usage`](crate::error::request::RequestError::Usage).
pub(crate) fn read_part(text: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<PartNumber> {
    let refused = |accepted| usage(FLAG, text, accepted);
    let (index, count) = match text.split_once('/') {
        Some((index, count)) => (index, Some(read(count).ok_or_else(|| refused(ACCEPTED))?)),
        None => (text, None),
    };
    let (index, count) = match (index, count) {
        ("auto", count) => of_task(count, get).map_err(refused)?,
        (index, Some(count)) => (read(index).ok_or_else(|| refused(ACCEPTED))?, count),
        _ => return Err(refused(ACCEPTED)),
    };
    if count > PartNumber::MOST {
        return Err(refused("there are 100000 parts at the most"));
    }
    PartNumber::new(index, count).ok_or_else(|| refused(ACCEPTED))
}

/// The part that this task of an array is to make: its place among all tasks, and their number.
fn of_task(
    asked: Option<u32>,
    get: &dyn Fn(&str) -> Option<String>,
) -> std::result::Result<(u32, u32), &'static str> {
    let number = |name: &str| get(name).and_then(|text| read(&text));
    let [task, first, count, step] = SLURM.map(number);
    if let Some(task) = task {
        let unknown = "Slurm does not say where in its array this task stands: type the number of the part";
        let (first, step) = (first.ok_or(unknown)?, step.unwrap_or(1).max(1));
        let count = count.ok_or(unknown)?;
        if asked.is_some_and(|asked| asked != count) {
            return Err("the Slurm array has another number of tasks: type the number of the part");
        }
        let above = task.checked_sub(first).ok_or(unknown)?;
        // Tasks that are named one by one, as `1,2,7`, have no place that can be computed.
        return if above % step == 0 && above / step < count {
            Ok((above / step, count))
        } else {
            Err("the tasks of the Slurm array do not follow each other: type the number of the part")
        };
    }
    match (number(KUBERNETES), asked) {
        (Some(index), Some(count)) => Ok((index, count)),
        (Some(_), None) => Err("Kubernetes does not say how many parts there are: auto/N is accepted"),
        (None, _) => Err("neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set: I/N is accepted"),
    }
}

/// A number without a sign.
fn read(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str, environment: &[(&str, &str)]) -> std::result::Result<String, String> {
        let get = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        read_part(text, &get).map(|part| part.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn parts_are_typed_from_zero() {
        assert_eq!(part("0/4", &[]).as_deref(), Ok("0/4"));
        assert_eq!(part("3/4", &[("SLURM_ARRAY_TASK_ID", "1")]).as_deref(), Ok("3/4"));
        for text in ["4/4", "0/0", "1", "/", "-1/4", "+1/4", "1/4/2", "a/4", "1/", "auto/x", "5000000000/9"] {
            let error = part(text, &[]).unwrap_err();
            assert_eq!(error, format!("`--part {text}`: {ACCEPTED}"));
        }
        let error = part("0/100001", &[]).unwrap_err();
        assert!(error.ends_with("there are 100000 parts at the most"), "{error}");
    }

    #[test]
    fn tasks_of_an_array_know_their_part() {
        let slurm = |id, min, count, step| {
            [
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_COUNT", count),
                ("SLURM_ARRAY_TASK_STEP", step),
            ]
        };
        assert_eq!(part("auto", &slurm("3", "0", "16", "1")).as_deref(), Ok("3/16"));
        assert_eq!(part("auto/4", &slurm("4", "1", "4", "1")).as_deref(), Ok("3/4"));
        assert_eq!(part("auto", &slurm("12", "4", "3", "4")).as_deref(), Ok("2/3"));
        assert_eq!(part("auto", &slurm("1", "1", "4", "1")[..3]).as_deref(), Ok("0/4"));
        assert_eq!(part("auto/3", &[("JOB_COMPLETION_INDEX", "2")]).as_deref(), Ok("2/3"));
        let error = |text, environment: &[(&str, &str)]| part(text, environment).unwrap_err();
        // One task that is run again is no array of all.
        assert!(error("auto/16", &slurm("3", "3", "1", "1")).contains("another number of tasks"));
        assert!(error("auto", &slurm("7", "1", "3", "1")).contains("do not follow each other"));
        assert!(error("auto", &slurm("5", "0", "4", "3")).contains("do not follow each other"));
        assert!(error("auto", &slurm("5", "", "", "")).contains("does not say where"));
        assert!(error("auto", &[("JOB_COMPLETION_INDEX", "2")]).contains("how many parts"));
        assert!(error("auto/2", &[("JOB_COMPLETION_INDEX", "2")]).contains("I from 0"));
        assert!(error("auto/2", &[]).contains("neither SLURM_ARRAY_TASK_ID nor"));
    }
}
