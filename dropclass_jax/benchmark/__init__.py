"""How fast training is, with proof: ``python -m dropclass_jax.benchmark``.

| section | what it measures |
|---|---|
| ``cost`` | work, temporary memory and memory traffic of the compiled step, exact, never run |
| ``steps`` | the time of a step: plain, with DropClass, and with the naive K maps |
| ``torch`` | forward pass and training step against PyTorch at its best, and the memory of both |
| ``hardware`` | a step beside a matrix product and a copy: which of them bounds it |
| ``pipeline`` | a step fed by the input pipeline against one whose batch is there |
| ``eval`` | images a second of evaluation, whole and through a sliding window |
| ``checkpoint`` | how long saving holds the loop up |
| ``memory`` | what is kept for the backward pass, with and without rematerialisation |
| ``settings`` | a step with rematerialisation, without donation, with other blocks of the loss |
| ``compile`` | from the start of a process to its first step, cold and from the cache |
| ``scaling`` | one batch over 1 and over 8 devices of one CPU |

Two rules. What can be counted is counted: ``flops`` in the traced program, ``hlo`` in the compiled
one, loops as often as they run (XLA's own counts take a loop's body once). What must be timed is
timed by turns in one process, and told as a ratio of the same turn, with its quartiles: a machine
that is busy slows both sides.

Notes: what costs most
----------------------

S is ``hrnet_w18_small_v1`` at 2 x 256 x 512, M ``hrnet_w18_small_v2`` at 2 x 512 x 1024, both in
float32 with 19 classes, compiled for a CPU by jax 0.10.2; x is a multiple of the plain step. What
was found before anything was changed, with what was predicted from it, and what became of that.

1. *The method itself*, a C-to-C convolution at stride 4 and the classifier's second use. M: 30.7
   GFLOP beside the 255 of the plain step (C = 270). Predicted: never below 1.12 x the work, and
   1.13 x after 5, so that an aim of 1.10 x is out of reach for this network. Stays.
2. *The K maps* as the method is told. All at once: S 1.53 x the work, 4.4 x the temporary memory,
   2.5 x the traffic; M 1.30 x the work. One by one: S 1.64 x, 1.3 x and 2.6 x; M 1.35 x. In their
   place two vectors of C weights, ``dropclass.average_features_shared``: S 1.30 x, 1.30 x, 1.30 x;
   M 1.18 x, 1.19 x, 1.16 x.
3. *Batch norm*, the largest traffic: S 1.5 of 3.8 GB, three quarters of it backward. Predicted:
   sums of x and of its square in one pass would save a third of the forward part, 3 % of the
   traffic, and lose digits where the mean is far from 0. Not done for so little. Differentiated by
   rule it also kept float32 deviations for the backward pass. Predicted: its input in its own dtype
   would do, a third less for one image of M in bfloat16. ``models.batch_norm``: 1.03 GiB became
   0.55 with plain training, 1.24 became 0.71 with DropClass (``memory``).
4. *Copies between layouts* that the compiler adds: S 0.5 of 3.8 GB. Open.
5. *Resizing* as products with matrices that are nearly all zeros: M 24 of 255 GFLOP, 39 of 302 with
   DropClass. Predicted: two weights a value in their place take 0.91 x the work of a plain step and
   0.87 x of one with DropClass. ``models.resize``: 0.91 x of M's plain step; S 0.91 x and 0.88 x.
6. *Logits at the labels' resolution*, in float32, for two heads: S 0.3 of 3.8 GB, 0.7 of 4.9 with
   DropClass. Predicted: a few rows of pixels at a time stay in the cache.
   ``upsampled``, loss and gradient of one head alone, 8 x 128 x 256: 2.0 to 2.5 x as fast, and 1 x
   512 x 1024: 4.3 x; 57 and 115 MiB of temporary memory became 4 and 2.
7. *The drop path's maps*, nine kept for the backward pass where two would do. Predicted: to compute
   products, norm and ReLU again costs no work to speak of. ``models.segmenter``: M in float32 kept
   1.29 x what plain training keeps, now 1.07 x. XLA's CPU compiler computes them too early to gain
   by it, so that its temporary memory is still 1.2 x and more; a GPU's is to be seen.
8. *On a CPU, page faults and work done twice*, which were taken for slow convolutions and small
   kernels. A step of S gave its temporary memory back to the system and fetched it again, 85,000
   pages a step: 0.73 x the process CPU time without (``allocator``). XLA's CPU compiler put
   the whole chain of residual sums into the kernel of each small gradient that reads one of them;
   ``ops.fusion`` has them computed once.
9. *Convolutions on a CPU*. Of 3 x 3 at stride 1 XLA's own forward pass and gradient of the input
   are the fastest that were tried. Products of matrices give the gradient of a kernel of 16 to 36
   outputs in 0.3 to 0.6 x the time, and four small convolutions that of the input at stride 2 in
   0.5 to 0.9 x (``ops.convolution``). XLA's depthwise convolutions took 6 to 34 x the time of
   shifted products, 7 to 30 x with the backward pass (``ops.depthwise``).
10. *Small kernels*: S 2500 of them a step, 2900 with DropClass. On a CPU their launch is a few ms;
    what it is on a GPU is to be measured there.
"""
