"""llama.cpp's samplers: a chain per request, run in C over the whole vocabulary, perhaps under a grammar."""

import ctypes
import math
from collections.abc import Sequence
from time import thread_time
from typing import Any, Final

from qwenctl.errors import GenerationFailed, InvalidRequest
from qwenctl.runtime.events import Likelihood, TokenLogprob
from qwenctl.runtime.llama import LlamaModel
from qwenctl.runtime.sampling import Sampling, Stage, stages
from qwenctl.runtime.triggers import TriggerWatch, ruling

_REJECTED: Final = -math.inf
# An ambiguous grammar multiplies what llama.cpp keeps in mind with every character. From 150,000 tokens a
# grammar with thousands of ways on chooses in a second.
_MOST_SECONDS: Final = 4.0


class LlamaSampler:
    """`batches.Sampler` over one context.

    Raises: InvalidRequest for a grammar that llama.cpp refuses, or a token that the model has not.
    """

    def __init__(self, model: LlamaModel, context: int, sampling: Sampling, history: Sequence[int]) -> None:
        self._model, self._context = model, context
        self._api = model.library.api
        self._draws = self._chain = self._new_chain()
        self._grammar: Any = None
        self._watch: TriggerWatch | None = None
        try:
            for stage in stages(sampling, model.vocabulary.size):
                self._add(stage)
            if sampling.grammar:
                self._guide(sampling)
        except BaseException:
            self.close()
            raise
        for token in history[-sampling.history_tokens :] if sampling.history_tokens else ():
            self._api.llama_sampler_accept(self._draws, token)

    def sample(self, row: int) -> int:
        """See `batches.Sampler`.

        Raises: GenerationFailed when no token can follow in the grammar, or to find one took too long.
        """
        if self._grammar is None:
            return int(self._api.llama_sampler_sample(self._chain, self._context, row))
        if self._watch is None:
            start = thread_time()  # which a busy machine does not change
            token = self._sample_guided(row)
            if thread_time() - start > _MOST_SECONDS:
                raise GenerationFailed(
                    "the grammar is too ambiguous: it takes seconds to find a token",
                    hint="let no text follow from it in more than one way",
                )
            return token
        token = int(self._api.llama_sampler_sample(self._draws, self._context, row))
        self._look_for_the_trigger(self._watch, token)
        return token

    def logprob(self, row: int, token: int, top: int) -> TokenLogprob:
        """See `batches.Sampler`. The logits are looked at where llama.cpp has them, not copied."""
        import numpy  # only requests for log probabilities need it: 30 MB of memory

        size = self._model.vocabulary.size
        logits = numpy.ctypeslib.as_array(self._api.llama_get_logits_ith(self._context, row), (size,))
        highest = logits.max()
        total = highest + numpy.log(numpy.exp(logits - highest).sum(dtype=numpy.float64))
        best: Any = numpy.argpartition(logits, -top)[-top:] if top else []
        ranked = sorted((int(index) for index in best), key=lambda index: (-logits[index], index))
        chosen, *others = (
            Likelihood(index, self._model.vocabulary.piece(index), float(logits[index] - total))
            for index in (token, *ranked)
        )
        return TokenLogprob(chosen, tuple(others))

    def close(self) -> None:
        """See `batches.Sampler`."""
        self._api.llama_sampler_free(self._chain)

    def _sample_guided(self, row: int) -> int:
        """Drawn as without a grammar first, on a copy: to look at one token is cheap, at all is not."""
        trial = self._api.llama_sampler_clone(self._draws)
        token = int(self._api.llama_sampler_sample(trial, self._context, row))
        if self._allows(token):
            self._api.llama_sampler_free(self._api.llama_sampler_chain_remove(self._chain, 1))
            self._api.llama_sampler_chain_add(self._chain, trial)
            self._draws = trial
            self._api.llama_sampler_accept(self._grammar, token)
            return token
        self._api.llama_sampler_free(trial)
        self._require_a_way_on()  # llama.cpp ends the process when it has to accept what the grammar refuses
        return int(self._api.llama_sampler_sample(self._chain, self._context, row))

    def _look_for_the_trigger(self, watch: TriggerWatch, token: int) -> None:
        """Let the grammar rule from now on if `token` ends a trigger.

        llama.cpp's own lazy grammar ends the process where a token ends the trigger and goes on with what the
        grammar refuses; here such a token has not called it.
        """
        behind = watch.feed(self._model.vocabulary.piece(token))
        if behind is None:
            return
        for following in self._tokens(behind):
            if not self._allows(following):
                self._api.llama_sampler_reset(self._grammar)
                return
            self._api.llama_sampler_accept(self._grammar, following)
        self._watch = None

    def _tokens(self, text: bytes) -> list[int]:
        vocabulary = self._model.vocabulary
        tokens = vocabulary.tokenize(text.decode(errors="replace")) if text else []
        return tokens[1:] if tokens and vocabulary.adds_beginning else tokens

    def _allows(self, token: int) -> bool:
        candidate = (self._api.llama_token_data * 1)(self._api.llama_token_data(token, 0.0, 0.0))
        array = self._candidates(candidate, 1)
        self._api.llama_sampler_apply(self._grammar, ctypes.byref(array))
        return bool(candidate[0].logit != _REJECTED)

    def _require_a_way_on(self) -> None:
        size = self._model.vocabulary.size
        data = (self._api.llama_token_data * size).from_buffer_copy(
            self._model.vocabulary.all_tokens(self._api)
        )
        array = self._candidates(data, size)
        self._api.llama_sampler_apply(self._grammar, ctypes.byref(array))
        greedy = self._api.llama_sampler_init_greedy()
        self._api.llama_sampler_apply(greedy, ctypes.byref(array))
        self._api.llama_sampler_free(greedy)
        if array.selected < 0 or array.data[array.selected].logit == _REJECTED:
            raise GenerationFailed("no token of the model can follow in the grammar")

    def _candidates(self, data: Any, size: int) -> Any:
        pointer = ctypes.cast(data, ctypes.POINTER(self._api.llama_token_data))
        return self._api.llama_token_data_array(pointer, size, -1, False)

    def _guide(self, sampling: Sampling) -> None:
        """Put the grammar before the stages that were added so far."""
        log, vocabulary = self._model.library.log, self._model.vocabulary
        log.clear()
        text, root = ruling(sampling)
        if sampling.grammar_triggers:
            opened = sampling.grammar_reasoning == "open"
            self._watch = TriggerWatch(sampling.grammar_triggers, reasoning=opened)
        guide = self._api.llama_sampler_init_grammar(vocabulary.handle, text.encode(), root.encode())
        if not guide:
            raise InvalidRequest(f"llama.cpp refuses the grammar: {log.error()}")
        outer = self._new_chain()
        self._api.llama_sampler_chain_add(outer, guide)
        self._api.llama_sampler_chain_add(outer, self._chain)
        self._grammar, self._chain = guide, outer

    def _new_chain(self) -> Any:
        parameters = self._api.llama_sampler_chain_default_params()
        parameters.no_perf = True
        return self._api.llama_sampler_chain_init(parameters)

    def _add(self, stage: Stage) -> None:
        made = getattr(self._api, f"llama_sampler_init_{stage.name}")(*self._arguments(stage))
        if not made:
            raise GenerationFailed(f"llama.cpp has no sampler `{stage.name}` with {stage.arguments}")
        self._api.llama_sampler_chain_add(self._chain, made)

    def _arguments(self, stage: Stage) -> tuple[Any, ...]:
        """The arguments in C's form, where they are more than numbers."""
        vocabulary = self._model.vocabulary
        if stage.name == "logit_bias":
            unknown = [token for token, _ in stage.arguments if not 0 <= token < vocabulary.size]
            if unknown:
                raise InvalidRequest(f"`logit_bias`: the model has no token {unknown[0]}")
            pairs = [self._api.llama_logit_bias(token, bias) for token, bias in stage.arguments]
            biases = (self._api.llama_logit_bias * len(pairs))(*pairs)
            return vocabulary.size, len(pairs), biases
        if stage.name == "dry":
            *numbers, breakers = stage.arguments
            texts = (ctypes.c_char_p * len(breakers))(*(text.encode() for text in breakers))
            return vocabulary.handle, *numbers, texts, len(breakers)
        return stage.arguments
