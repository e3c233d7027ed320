// Parts of tensors that cover a rectangle of the picture.
#pragma once

#include "nicrt/engine.hpp"

namespace nicrt::engine {

/// What a graph gets of a tensor when it runs on `rect`: the array itself, or a copy of a part.
Status read_part(const program::Tensor& tensor, const Array& array, const program::Rect& rect, Budget* budget,
                 Array& out);

/// The part that covers `rect` of what a graph has given for `whole`: itself, or a copy.
Status crop(const program::Tensor& tensor, const Array& array, const program::Rect& whole,
            const program::Rect& rect, Budget* budget, Array& out);

/// Copies what covers `rect` into an array that covers `whole`.
void paste(const program::Tensor& tensor, const Array& part, const program::Rect& rect, const Array& array,
           const program::Rect& whole);

}  // namespace nicrt::engine
