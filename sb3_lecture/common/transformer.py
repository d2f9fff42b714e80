"""A small causal transformer (Vaswani et al. 2017; pre-norm as in GPT-2) with a cache of keys and values.

``forward`` reads whole rows, ``step`` one more token of each row: the keys and values of the tokens before it are in the
cache, so a token costs one pass over the weights and not one for each token before it. Both give the same numbers.
"""

import torch as th
from torch import nn
from torch.nn import functional as F

Cache = tuple[th.Tensor, th.Tensor]  # keys and values, [layers, batch, heads, time, width of a head] each


class Block(nn.Module):
    """Attention and two dense layers, each added to what came in.

    :param width: W
    :param n_heads: H, which divides W
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention, self.norm_dense = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def _split(self, x: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        batch, time, width = x.shape
        qkv = self.to_qkv(self.norm_attention(x)).view(batch, time, 3, self.n_heads, width // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [batch, heads, time, head width] each
        return q, k, v

    def _finish(self, x: th.Tensor, attended: th.Tensor) -> th.Tensor:
        x = x + self.to_out(attended.transpose(1, 2).reshape(x.shape))
        return x + self.dense(self.norm_dense(x))

    def forward(self, x: th.Tensor) -> th.Tensor:
        """[batch, time, W] → the same; a place looks at itself and those before it."""
        q, k, v = self._split(x)
        return self._finish(x, F.scaled_dot_product_attention(q, k, v, is_causal=True))

    def step(self, x: th.Tensor, position: th.Tensor, keys: th.Tensor, values: th.Tensor, seen: th.Tensor) -> th.Tensor:
        """One more place of each row.

        :param x: [batch, 1, W]
        :param position: its place, int64 [batch]
        :param keys: of this layer, [batch, heads, time, head width]; written at ``position``
        :param values: the same
        :param seen: which places may be looked at, bool [batch, 1, 1, time]
        :return: [batch, 1, W]
        """
        q, k, v = self._split(x)
        rows = th.arange(len(x), device=x.device)
        keys[rows, :, position], values[rows, :, position] = k[:, :, 0], v[:, :, 0]
        return self._finish(x, F.scaled_dot_product_attention(q, keys, values, attn_mask=seen))


class CausalTransformer(nn.Module):
    """Tokens → one vector a place that knows this token and those before it.

    :param n_ids: number of token ids
    :param length: longest row T
    :param width: W (default 64)
    :param n_layers: blocks (default 2)
    :param n_heads: H, which divides W (default 4)
    """

    def __init__(self, n_ids: int, length: int, width: int = 64, n_layers: int = 2, n_heads: int = 4) -> None:
        super().__init__()
        self.length, self.width, self.n_layers, self.n_heads = length, width, n_layers, n_heads
        self.tokens, self.places = nn.Embedding(n_ids, width), nn.Embedding(length, width)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.1)
        self.blocks = nn.ModuleList(Block(width, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: th.Tensor) -> th.Tensor:
        """int64 [batch, time] → [batch, time, W]."""
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def empty_cache(self, batch: int) -> Cache:
        """A cache for rows of which nothing was read yet."""
        shape = (self.n_layers, batch, self.n_heads, self.length, self.width // self.n_heads)
        like = self.places.weight
        return like.new_zeros(shape), like.new_zeros(shape)

    def step(self, token: th.Tensor, position: th.Tensor, cache: Cache) -> th.Tensor:
        """Read one more token of each row; the cache is written in place.

        :param token: int64 [batch]
        :param position: place of the token, int64 [batch]
        :param cache: what the places before it left
        :return: [batch, W]
        """
        x = (self.tokens(token) + self.places(position))[:, None]  # [batch, 1, W]
        seen = (th.arange(self.length, device=token.device) <= position[:, None])[:, None, None]
        for layer, block in enumerate(self.blocks):
            x = block.step(x, position, cache[0][layer], cache[1][layer], seen)  # type: ignore[operator]
        return self.norm(x)[:, 0]
