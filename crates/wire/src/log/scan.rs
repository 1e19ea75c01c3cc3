//! Protobuf's wire format, as far as a message is read by hand. What is refused here is what prost refuses.

use prost::encoding::WireType;

/// Bytes that are no such message.
#[derive(Debug)]
pub(super) struct Refused;

/// How deep messages and groups may lie in each other, as prost has it.
const DEPTH_MAX: u32 = 100;

/// What of a message is still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
    /// How many more levels may lie within this one.
    depth_left: u32,
}

impl<'a> Input<'a> {
    /// A whole message, which lies in no other.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message, depth_left: DEPTH_MAX }
    }

    /// Number and kind of the next field; `None` at the end.
    #[inline]
    pub fn key(&mut self) -> Result<Option<(u32, WireType)>, Refused> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.field().map(Some)
    }

    #[inline]
    fn field(&mut self) -> Result<(u32, WireType), Refused> {
        let key = u32::try_from(self.varint()?).map_err(|_| Refused)?;
        let kind = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::SixtyFourBit,
            2 => WireType::LengthDelimited,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::ThirtyTwoBit,
            _ => return Err(Refused),
        };
        match key >> 3 {
            0 => Err(Refused),
            field => Ok((field, kind)),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Refused> {
        // Nearly all are heads and lengths below 128.
        if let [byte @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Refused> {
        let mut value = 0;
        for (n, &byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte has room for one bit.
            if n == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * n);
            if byte < 0x80 {
                self.rest = &self.rest[n + 1..];
                return Ok(value);
            }
        }
        Err(Refused)
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8], Refused> {
        let length = usize::try_from(length).map_err(|_| Refused)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Refused)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn bytes(&mut self, kind: WireType) -> Result<&'a [u8], Refused> {
        expect(kind, WireType::LengthDelimited)?;
        let length = self.varint()?;
        self.take(length)
    }

    /// A message within this one.
    #[inline]
    pub fn message(&mut self, kind: WireType) -> Result<Input<'a>, Refused> {
        let depth_left = self.depth_left.checked_sub(1).ok_or(Refused)?;
        Ok(Input { rest: self.bytes(kind)?, depth_left })
    }

    #[inline]
    pub fn text(&mut self, kind: WireType) -> Result<&'a str, Refused> {
        std::str::from_utf8(self.bytes(kind)?).map_err(|_| Refused)
    }

    /// A `bool` or any other varint.
    #[inline]
    pub fn varint_of(&mut self, kind: WireType) -> Result<u64, Refused> {
        expect(kind, WireType::Varint)?;
        self.varint()
    }

    /// A `uint32`: what is too large loses its upper bits.
    #[inline]
    pub fn unsigned(&mut self, kind: WireType) -> Result<u32, Refused> {
        Ok(self.varint_of(kind)? as u32)
    }

    /// A `sint64`.
    #[inline]
    pub fn signed(&mut self, kind: WireType) -> Result<i64, Refused> {
        let value = self.varint_of(kind)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A value of an enum; `None`: one that this program does not know.
    #[inline]
    pub fn choice<E: TryFrom<i32>>(&mut self, kind: WireType) -> Result<Option<E>, Refused> {
        Ok(E::try_from(self.varint_of(kind)? as i32).ok())
    }

    /// A `fixed64`.
    #[inline]
    pub fn fixed(&mut self, kind: WireType) -> Result<u64, Refused> {
        expect(kind, WireType::SixtyFourBit)?;
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Refused)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Goes over a field that this program does not know.
    #[cold]
    pub fn skip(&mut self, field: u32, kind: WireType) -> Result<(), Refused> {
        self.skip_within(field, kind, self.depth_left)
    }

    fn skip_within(&mut self, field: u32, kind: WireType, depth_left: u32) -> Result<(), Refused> {
        if depth_left == 0 {
            return Err(Refused);
        }
        let length = match kind {
            WireType::Varint => self.varint().map(|_| 0)?,
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => self.varint()?,
            WireType::StartGroup => loop {
                match self.field()? {
                    (inner, WireType::EndGroup) if inner == field => break 0,
                    (_, WireType::EndGroup) => return Err(Refused),
                    (inner, kind) => self.skip_within(inner, kind, depth_left - 1)?,
                }
            },
            WireType::EndGroup => return Err(Refused),
        };
        self.take(length).map(drop)
    }
}

#[inline]
fn expect(kind: WireType, expected: WireType) -> Result<(), Refused> {
    if kind == expected { Ok(()) } else { Err(Refused) }
}
