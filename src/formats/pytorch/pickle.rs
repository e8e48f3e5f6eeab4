//! A machine that runs pickles of state dicts, and nothing else.
//!
//! It knows the operations that `torch.save` writes in protocols 2 to 5, and these names: dictionaries, storages, and the functions that
//! make a tensor of a storage. What a program makes lies in one list, so that nothing is nested in memory, whatever it says; each
//! object is counted before it is kept.

use crate::formats::allowance::Allowance;
use crate::formats::pytorch::problem::PytorchProblem;
use crate::formats::pytorch::{MAX_AXES, MAX_NAME_BYTES};
use crate::tensor::dtype::Dtype;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    /// Nothing that a tensor is made of: none, a float, a set.
    Other,
    /// True or false.
    Flag(bool),
    /// A whole number.
    Int(i64),
    /// Bytes of the pickle that are a text.
    Text { start: u32, end: u32 },
    /// A name that is known.
    Global(Global),
    /// A place among the objects.
    Object(u32),
}

/// Names that a pickle may ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Global {
    /// `collections.OrderedDict`.
    Dict,
    /// `torch._utils._rebuild_tensor_v2`, whose storage has its type.
    Tensor,
    /// `torch._utils._rebuild_tensor_v3`, which has a type of its own.
    TypedTensor,
    /// `torch._utils._rebuild_parameter`.
    Parameter,
    /// A storage of such elements; of bytes if there is no type.
    Storage(Option<Element>),
    /// A type.
    Type(Element),
    /// What stands beside tensors in a trainer's state, and is a list of values to us.
    Aside,
}

/// A type of elements, or the name of one that is not read.
pub(crate) type Element = Result<Dtype, &'static str>;

/// What a program makes.
#[derive(Debug)]
pub(crate) enum PickleObject {
    /// A tuple, or a list.
    List(Vec<Value>),
    /// Keys and their values.
    Dict(Vec<(Value, Value)>),
    /// A storage: its type, and its key.
    Storage(Option<Element>, Value),
    /// A tensor.
    Tensor(TensorValue),
}

/// A tensor: which objects its storage, its sizes and its strides are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorValue {
    pub(crate) storage: u32,
    pub(crate) offset: i64,
    pub(crate) sizes: u32,
    pub(crate) strides: u32,
    pub(crate) element: Element,
}

const GLOBALS: &[(&str, Global)] = &[
    ("collections.OrderedDict", Global::Dict),
    ("torch._utils._rebuild_tensor_v2", Global::Tensor),
    ("torch._utils._rebuild_tensor", Global::Tensor),
    ("torch._utils._rebuild_tensor_v3", Global::TypedTensor),
    ("torch._utils._rebuild_parameter", Global::Parameter),
    ("torch.Size", Global::Aside),
    ("torch.device", Global::Aside),
    ("builtins.set", Global::Aside),
    ("__builtin__.set", Global::Aside),
    ("torch.storage.UntypedStorage", Global::Storage(None)),
    ("torch.FloatStorage", Global::Storage(Some(Ok(Dtype::F32)))),
    ("torch.DoubleStorage", Global::Storage(Some(Ok(Dtype::F64)))),
    ("torch.HalfStorage", Global::Storage(Some(Ok(Dtype::F16)))),
    ("torch.BFloat16Storage", Global::Storage(Some(Ok(Dtype::BF16)))),
    ("torch.LongStorage", Global::Storage(Some(Ok(Dtype::I64)))),
    ("torch.IntStorage", Global::Storage(Some(Ok(Dtype::I32)))),
    ("torch.ShortStorage", Global::Storage(Some(Ok(Dtype::I16)))),
    ("torch.CharStorage", Global::Storage(Some(Ok(Dtype::I8)))),
    ("torch.ByteStorage", Global::Storage(Some(Ok(Dtype::U8)))),
    ("torch.BoolStorage", Global::Storage(Some(Ok(Dtype::BOOL)))),
    ("torch.ComplexFloatStorage", Global::Storage(Some(Ok(Dtype::C64)))),
    ("torch.ComplexDoubleStorage", Global::Storage(Some(Err("complex128")))),
    ("torch.float32", Global::Type(Ok(Dtype::F32))),
    ("torch.float16", Global::Type(Ok(Dtype::F16))),
    ("torch.bfloat16", Global::Type(Ok(Dtype::BF16))),
    ("torch.float64", Global::Type(Ok(Dtype::F64))),
    ("torch.float8_e4m3fn", Global::Type(Ok(Dtype::F8_E4M3))),
    ("torch.float8_e5m2", Global::Type(Ok(Dtype::F8_E5M2))),
    ("torch.uint16", Global::Type(Ok(Dtype::U16))),
    ("torch.uint32", Global::Type(Ok(Dtype::U32))),
    ("torch.uint64", Global::Type(Ok(Dtype::U64))),
];

/// Bytes that a value in a list or in the memo is counted with.
const VALUE_BYTES: u64 = 32;
/// And an object beside its values.
const OBJECT_BYTES: u64 = 128;

/// Why a program was not run to its end.
pub(crate) enum Stopped {
    /// It is none that is run.
    Problem(PytorchProblem),
    /// What it makes is counted and not kept.
    NoRoom,
}

impl From<PytorchProblem> for Stopped {
    fn from(problem: PytorchProblem) -> Stopped {
        Stopped::Problem(problem)
    }
}

/// A program that is run.
pub(crate) struct PickleMachine<'p> {
    pickle: &'p [u8],
    at: usize,
    allowance: &'p Allowance,
    stack: Vec<Value>,
    /// The most values that were on it.
    highest: usize,
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    /// What it made.
    pub(crate) objects: Vec<PickleObject>,
}

impl<'p> PickleMachine<'p> {
    /// Runs a program to its end; what it leaves, and the machine with all that it made.
    pub(crate) fn run(
        pickle: &'p [u8],
        allowance: &'p Allowance,
    ) -> Result<(Value, PickleMachine<'p>), Stopped> {
        let (stack, marks, memo, objects) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut machine = PickleMachine { pickle, at: 0, allowance, stack, highest: 0, marks, memo, objects };
        loop {
            let operation = machine.byte()?;
            if operation == b'.' {
                let result = machine.pop()?;
                return Ok((result, machine));
            }
            machine.step(operation)?;
        }
    }

    /// Bytes of the program that was run; others may follow it.
    pub(crate) fn length(&self) -> usize {
        self.at
    }

    /// The values of a list.
    pub(crate) fn values(&self, list: Value) -> Option<&[Value]> {
        self.list(list)
    }

    /// A text of the program that is no longer than names are: one may be asked for as often as it is named.
    pub(crate) fn text(&self, value: Value) -> Option<&'p str> {
        let Value::Text { start, end } = value else { return None };
        if (end - start) as usize > MAX_NAME_BYTES {
            return None;
        }
        std::str::from_utf8(&self.pickle[start as usize..end as usize]).ok()
    }

    /// A list of whole numbers, of no more than a tensor has axes.
    pub(crate) fn numbers(&self, list: u32) -> Option<Vec<i64>> {
        let PickleObject::List(values) = &self.objects[list as usize] else { return None };
        if values.len() > MAX_AXES {
            return None;
        }
        values.iter().map(|value| if let Value::Int(number) = value { Some(*number) } else { None }).collect()
    }

    fn step(&mut self, operation: u8) -> Result<(), Stopped> {
        match operation {
            // Protocol and frame say nothing that is needed.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => {
                self.count(1)?;
                self.marks.push(self.stack.len());
            }
            b'N' => self.push(Value::Other)?,
            0x88 | 0x89 => self.push(Value::Flag(operation == 0x88))?,
            b'G' => {
                self.take(8)?;
                self.push(Value::Other)?;
            }
            b'J' | b'K' | b'M' | 0x8a => self.number(operation)?,
            b'X' => {
                let len = self.u32()? as usize;
                self.push_text(len)?;
            }
            // As Python 2 wrote short texts.
            0x8c | b'U' => {
                let len = usize::from(self.byte()?);
                self.push_text(len)?;
            }
            b'}' => self.make(PickleObject::Dict(Vec::new()))?,
            b']' | b')' => self.make(PickleObject::List(Vec::new()))?,
            b't' | b'l' => {
                let values = self.pop_mark()?;
                self.make(PickleObject::List(values))?;
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(operation - 0x84));
                let values = self.pop_from(from.ok_or_else(|| self.broken())?)?;
                self.make(PickleObject::List(values))?;
            }
            b's' | b'u' | b'a' | b'e' => self.fill(operation)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(operation)?,
            b'c' | 0x93 => self.global(operation)?,
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            // The state of a dictionary is that of no tensor.
            b'b' => drop(self.pop()?),
            found => return Err(PytorchProblem::Operation { found, at: self.at - 1 }.into()),
        }
        Ok(())
    }

    fn number(&mut self, operation: u8) -> Result<(), Stopped> {
        let number = match operation {
            b'J' => i64::from(self.u32()? as i32),
            b'K' => i64::from(self.byte()?),
            b'M' => i64::from(u16::from_le_bytes([self.byte()?, self.byte()?])),
            _ => {
                let len = usize::from(self.byte()?);
                let bytes = self.take(len)?;
                if len > 8 {
                    return self.push(Value::Other);
                }
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut all = [if negative { 0xff } else { 0 }; 8];
                all[..len].copy_from_slice(bytes);
                i64::from_le_bytes(all)
            }
        };
        self.push(Value::Int(number))
    }

    /// Puts values into the list or dictionary below them.
    fn fill(&mut self, operation: u8) -> Result<(), Stopped> {
        let values = match operation {
            b'u' | b'e' => self.pop_mark()?,
            _ => {
                let count = if operation == b's' { 2 } else { 1 };
                self.pop_from(self.stack.len().checked_sub(count).ok_or_else(|| self.broken())?)?
            }
        };
        let Some(&Value::Object(into)) = self.stack.last() else { return Err(self.broken().into()) };
        self.count(values.len())?;
        let at = self.at;
        match (&mut self.objects[into as usize], operation) {
            (PickleObject::List(list), b'a' | b'e') => list.extend(values),
            (PickleObject::Dict(pairs), b's' | b'u') if values.len().is_multiple_of(2) => {
                pairs.extend(values.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            _ => return Err(PytorchProblem::Broken { at }.into()),
        }
        Ok(())
    }

    /// Writes to the memo, or reads from it.
    fn remember(&mut self, operation: u8) -> Result<(), Stopped> {
        let place = match operation {
            b'q' | b'h' => usize::from(self.byte()?),
            0x94 => self.memo.len(),
            _ => self.u32()? as usize,
        };
        if matches!(operation, b'h' | b'j') {
            let value = self.memo.get(place).copied().flatten();
            return self.push(value.ok_or_else(|| self.broken())?);
        }
        let value = *self.stack.last().ok_or_else(|| self.broken())?;
        // Places are given in turn: one far beyond the others is nobody's.
        if place > self.memo.len() + 1024 {
            return Err(self.broken().into());
        }
        if place >= self.memo.len() {
            self.count(place + 1 - self.memo.len())?;
            self.memo.resize(place + 1, None);
        }
        self.memo[place] = Some(value);
        Ok(())
    }

    fn global(&mut self, operation: u8) -> Result<(), Stopped> {
        let name = if operation == b'c' {
            let (module, name) = (self.line()?, self.line()?);
            format!("{module}.{name}")
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let (Some(module), Some(name)) = (self.text(module), self.text(name)) else {
                return Err(self.broken().into());
            };
            format!("{module}.{name}")
        };
        match GLOBALS.iter().find(|(known, _)| *known == name) {
            Some((_, global)) => self.push(Value::Global(*global)),
            None => {
                let name = name.chars().take(100).collect();
                Err(PytorchProblem::Global { name }.into())
            }
        }
    }

    /// `('storage', type, key, location, elements)` as a storage.
    fn storage(&mut self) -> Result<(), Stopped> {
        let list = self.pop()?;
        // Before zips a view of it may follow, which no torch since 0.4 writes.
        let Some(
            [tag, Value::Global(Global::Storage(element)), key, _, Value::Int(_)]
            | [tag, Value::Global(Global::Storage(element)), key, _, Value::Int(_), Value::Other],
        ) = self.list(list)
        else {
            return Err(self.broken().into());
        };
        let (tag, element, key) = (*tag, *element, *key);
        if self.text(tag) != Some("storage") {
            return Err(self.broken().into());
        }
        self.make(PickleObject::Storage(element, key))
    }

    /// Calls one of the functions that are known.
    fn call(&mut self) -> Result<(), Stopped> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Global(function), Some(arguments)) = (function, self.list(arguments)) else {
            return Err(self.broken().into());
        };
        match (function, arguments) {
            (Global::Dict, arguments)
                if arguments.len() <= 1
                    && arguments.iter().all(|argument| self.list(*argument) == Some(&[])) =>
            {
                self.make(PickleObject::Dict(Vec::new()))
            }
            (Global::Parameter, &[tensor, ..]) => self.push(tensor),
            (Global::Aside, [_]) => self.push(Value::Other),
            (Global::Tensor, &[storage, offset, sizes, strides, ..]) => {
                self.tensor([storage, offset, sizes, strides], None)
            }
            (
                Global::TypedTensor,
                &[storage, offset, sizes, strides, _, _, Value::Global(Global::Type(element)), ..],
            ) => self.tensor([storage, offset, sizes, strides], Some(element)),
            _ => Err(self.broken().into()),
        }
    }

    fn tensor(&mut self, parts: [Value; 4], element: Option<Element>) -> Result<(), Stopped> {
        let [Value::Object(storage), Value::Int(offset), Value::Object(sizes), Value::Object(strides)] =
            parts
        else {
            return Err(self.broken().into());
        };
        let PickleObject::Storage(own, _) = &self.objects[storage as usize] else {
            return Err(self.broken().into());
        };
        let element = element.or(*own).ok_or_else(|| self.broken())?;
        self.make(PickleObject::Tensor(TensorValue { storage, offset, sizes, strides, element }))
    }

    fn list(&self, value: Value) -> Option<&[Value]> {
        let Value::Object(place) = value else { return None };
        match &self.objects[place as usize] {
            PickleObject::List(values) => Some(values),
            _ => None,
        }
    }

    fn make(&mut self, object: PickleObject) -> Result<(), Stopped> {
        let values = if let PickleObject::List(values) = &object { values.len() } else { 0 };
        if !self.allowance.take(OBJECT_BYTES) {
            return Err(Stopped::NoRoom);
        }
        self.count(values)?;
        let place = u32::try_from(self.objects.len()).map_err(|_| self.broken())?;
        self.objects.push(object);
        self.push(Value::Object(place))
    }

    fn count(&self, values: usize) -> Result<(), Stopped> {
        let is_there = self.allowance.take(VALUE_BYTES * values as u64);
        if is_there { Ok(()) } else { Err(Stopped::NoRoom) }
    }

    fn push(&mut self, value: Value) -> Result<(), Stopped> {
        // Places of the stack are counted once, whatever stands there.
        if self.stack.len() == self.highest {
            self.count(1)?;
            self.highest += 1;
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_text(&mut self, len: usize) -> Result<(), Stopped> {
        let start = self.at as u32;
        self.take(len)?;
        self.push(Value::Text { start, end: self.at as u32 })
    }

    fn pop(&mut self) -> Result<Value, Stopped> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let value = if self.stack.len() > floor { self.stack.pop() } else { None };
        value.ok_or_else(|| self.broken().into())
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, Stopped> {
        let mark = self.marks.pop().ok_or_else(|| self.broken())?;
        self.pop_from(mark)
    }

    fn pop_from(&mut self, from: usize) -> Result<Vec<Value>, Stopped> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if from < floor || from > self.stack.len() {
            return Err(self.broken().into());
        }
        Ok(self.stack.split_off(from))
    }

    fn take(&mut self, len: usize) -> Result<&'p [u8], Stopped> {
        let bytes = self.pickle.get(self.at..).and_then(|rest| rest.get(..len)).ok_or(PytorchProblem::End)?;
        self.at += len;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Stopped> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Stopped> {
        let bytes = self.take(4)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }

    /// A text up to the end of its line.
    fn line(&mut self) -> Result<&'p str, Stopped> {
        let rest = &self.pickle[self.at..];
        let len = rest.iter().position(|byte| *byte == b'\n').ok_or(PytorchProblem::End)?;
        self.at += len + 1;
        std::str::from_utf8(&rest[..len]).map_err(|_| self.broken().into())
    }

    fn broken(&self) -> PytorchProblem {
        PytorchProblem::Broken { at: self.at }
    }
}
