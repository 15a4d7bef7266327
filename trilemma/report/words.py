"""What each figure of a report means, in plain words."""

from __future__ import annotations

# What a reader who points at a title is told.
WORDS = {
    "translation": (
        "Half the perceptual distance to the hidden partner, and half the root of the Fréchet distance to the targets "
        "as a set, as a share of their own spread. 0: perfect; 1: as who does not look at the source."
    ),
    "perceptual": (
        "How far outputs are from their hidden partners, in features of the network that measures, place by place. 0: "
        "equal; 1: as far as any other target."
    ),
    "structure": (
        "How much of the source's layout the output has: which places are alike, whatever they look like. 1: all; 0: "
        "no more than that of another source. The last row, where there is one: the hidden partners themselves."
    ),
    "agreement": (
        "How well the source's map can be read off the output by a segmenter that learned from real pairs: "
        "intersection over union, mean over classes. 1: all of it. The last row: read off the hidden partners."
    ),
    "psnr": "Peak signal-to-noise ratio to the hidden partner, pixel by pixel, in decibels. It rewards blur.",
    "ssim": "Structural similarity of small windows to those of the hidden partner. 1: equal. It rewards blur, too.",
    "draws": (
        "How far two outputs for one source are from each other. 0: always the same; 1: as far as two targets of "
        "different sources."
    ),
    "cycle": (
        "What is lost on the way there and back: squared error of sources after both, relative to the sources' mean "
        "picture. 0: nothing."
    ),
    "frechet": (
        "Distance between the clouds of features of samples and of unseen real data: means and covariances "
        "compared (of points and tables: of values and cosines of them). 0: no difference. It grows with fewer "
        "samples, so compare it only within this table."
    ),
    "frechet@random": (
        "The same distance on features of an untrained (random) convolutional network: another judge, which sees "
        "blur and noise."
    ),
    "frechet_extrapolated": (
        "The Fréchet distance that infinitely many examples and samples would have, by a line through smaller counts. "
        "Near 0: no difference; chance takes it a little below."
    ),
    "kernel@imagenet": (
        "Kernel distance on features of a network that was trained on ImageNet's photographs: a third judge, for "
        "photographs."
    ),
    "kernel@random": "The kernel distance on the random network's features.",
    "kernel": (
        "Kernel distance (unbiased): whether any smooth function of the features tells samples from real data. 0: "
        "none does; slightly negative values are noise."
    ),
    "precision": (
        "Share of samples that lie where real data lie: how many look real. It does not see what is missing."
    ),
    "density": (
        "How many real neighbourhoods a sample lies in, on average, relative to real data. 1: as dense as real "
        "data; more: only the most typical."
    ),
    "classifier": (
        "Area under the curve of a classifier trained to tell samples from real data. 0.5: it can only guess; 1: "
        "it always knows."
    ),
    "shapes": (
        "How alike each single column is to unseen real rows, on average. 1: the same; real rows themselves fall short "
        "of 1 by chance, see the last row."
    ),
    "usefulness": (
        "How well gradient boosting that has learned from the samples alone predicts the target column of unseen real "
        "rows: F1 of the rarer class, or R2 of a number. The last row: learned from as many real rows."
    ),
    "usefulness@linear": "The same for a linear model.",
    "augmented": "The same for samples and as many real rows together: more than in the last row where they add to it.",
    "closer_to_train": (
        "Share of samples that are closer to a training row than to any unseen real one, as if there were as many of "
        "both (SDMetrics' and TabSyn's DCR). 0.5: no closer; 1: all of them are."
    ),
    "rules_broken": "Share of rows that break a rule of --keep. Models that were trained with it cannot.",
    "exact_copies": "Share of samples that stand cell for cell among the training rows.",
    "membership": (
        "How well one who sees only the samples tells who was trained on from who was not. 0.5: by chance only."
    ),
    "attribute_gain": (
        "How much more often the target of a row is guessed from the samples when the row was trained on. 0: no more."
    ),
    "trends": "How alike pairs of columns go together, on average (at most 5,000 pairs). 1: as in unseen real rows.",
    "marginals": (
        "How alike the values of each variable are to unseen real ones, steps apart, on average. 1: the same; "
        "real data of an earlier time fall short of it, see the last row."
    ),
    "autocorrelation": (
        "How far the correlation of a variable with itself some steps later is from real data's, over all lags up "
        "to half a window. 0: the same memory."
    ),
    "cross_correlation": (
        "How far the correlations of all pairs of variables, 0 to 8 steps apart, are from real data's. 0: they go "
        "together in the same way."
    ),
    "spectra": (
        "How far the strength of slow and fast movements, frequency by frequency, is from real data's, in "
        "decibels. 0: the same."
    ),
    "discriminative": (
        "How far the accuracy of a classifier that tells made windows from those of the time that was learned is from "
        "guessing, in stretches of time that it did not see. 0: it can only guess; 0.5: it is always right."
    ),
    "predictive": (
        "Error, in deviations, of a network that learned from made windows to tell the next step of real ones. "
        "The last row: learned from as many real windows."
    ),
    "signature": (
        "Unbiased distance between the paths of made and real windows, by their signatures. 0: no difference; slightly "
        "negative values are noise."
    ),
    "forecast": (
        "Error of forecasts (CRPS) a quarter of a window ahead, from 20 moments of unseen time, relative to that of "
        "the seasonal ensemble: the same place in the last 14 periods. Below 1: better than that."
    ),
    "forecast_tails": (
        "How well the 5th and the 95th hundredth of forecasts are told (pinball loss), relative to the seasonal "
        "ensemble. Below 1: better than that."
    ),
    "forecast_coverage": (
        "How often the truth lies between the 5th and the 95th hundredth of a forecast's draws. 0.9 is right; below: "
        "too sure."
    ),
    "facts": (
        "How many stylised facts of returns (heavy tails, no linear autocorrelation, volatility clustering, leverage, "
        "gain/loss asymmetry) lie inside the interval of unseen real data."
    ),
    "tail_index": "Hill's index of the largest twentieth of returns: smaller is heavier; most markets have 3 to 5.",
    "linear_autocorrelation": "Mean autocorrelation of returns 1 to 5 steps apart: near 0 in most markets.",
    "volatility_clustering": (
        "Mean autocorrelation of absolute returns 1 to 20 steps apart: above 0 where calm and storm last."
    ),
    "leverage": (
        "Mean correlation of a return with absolute returns 1 to 10 steps later: below 0 where losses bring storm."
    ),
    "gain_loss_asymmetry": (
        "How much longer a path takes to gain three deviations of a step than to lose them, as a share of half a "
        "window."
    ),
    "sharpness": "Fine detail in samples relative to real data. 1: as sharp; less: blurred; more: noisy.",
    "spectrum": (
        "How far the strength of coarse and fine structure, frequency by frequency, is from real data's, in decibels. "
        "0: the same; patterns that a network leaves behind show here."
    ),
    "alpha_precision": (
        "Whether samples are as typical, and as odd, as real data: 1 where every ball about the data's mean holds the "
        "same share of both."
    ),
    "beta_recall": (
        "Share of unseen real data that have a sample as near as another real example, over all degrees of typicality. "
        "Real data themselves do not reach 1: read it beside the last row."
    ),
    "classes": "How many of the data's classes are among the samples, as a classifier trained on real data reads them.",
    "balance": (
        "Whether the classes appear in the right shares. 1: as in real data; 1 less the part that would have to change."
    ),
    "control": (
        "Share of samples that a classifier, trained on real data, takes for the class that was asked for; in the last "
        "row: how often it is right on unseen real data."
    ),
    "attributes": (
        "Share of the attributes that samples have as they were asked for, read as classes are; results.json has it "
        "for each attribute. The last row: how often they are read right off unseen real data."
    ),
    "clip_score": (
        "Whether samples are of what their captions say: the mean cosine of a sample and its caption, one of the test "
        "split, by a CLIP that was trained on these data to measure with, apart from any that guides. Read it beside "
        "the floor, the real pictures of those captions, and beside “of other captions”."
    ),
    "caption_variety": (
        "How far samples of one caption are from each other, as a share of how far those of different captions are. 0: "
        "one picture for each caption; 1: captions decide nothing. In the last row: of unseen real pictures, where "
        "several have one caption."
    ),
    "clip_shuffled": "The same mean cosine with another sample's caption: what pairs that do not go together get.",
    "retrieval_1": "How often a caption finds its own sample first among 100 of them; chance is 1 %.",
    "retrieval_5": (
        "How often a caption finds its own sample among the nearest 5 of 100; chance is 5 %. The floor is that of "
        "unseen real pictures: what nobody can tell apart, nobody finds."
    ),
    "changed@label": (
        "Of samples whose style is moved from their own label's mean to another label's: the share that a classifier "
        "takes for the other."
    ),
    "kept@label": (
        "The share of what else can be read off samples (which half of brightness and of contrast, attributes) that is "
        "as before the move to another label."
    ),
    "replaced@label": (
        "How far the move to another label takes a sample, in features, over how far it then is from other samples. 1: "
        "it has no more in common with what it was than with another one; a new sample of that label would do."
    ),
    "attributes_changed": (
        "Of samples that are moved along an attribute's direction: the share that is read as it was asked for, mean "
        "over the first eight attributes; results.json has changed@, kept@ and replaced@ of each."
    ),
    "attributes_kept": (
        "Of the same samples: the share of everything else that can be read (label, other attributes, halves of "
        "brightness and contrast) that is as before."
    ),
    "changed": "Of samples that are moved two deviations of brightness: the share that ends in the half asked for.",
    "kept": (
        "Of samples whose brightness was changed: the share that a classifier takes for what they were; of data "
        "without labels, that stays in its half of contrast. A change of nothing keeps all."
    ),
    "separability": (
        "How badly planes through styles tell classes, bright from dark and rich from poor in contrast. 1: perfectly."
    ),
    "path_length@z": (
        "How far features move for a small step between two codes, squared and by the step. A model that always makes "
        "one thing has 0."
    ),
    "path_length@w": "The same for steps between two styles. Lower than between codes: styles are the smoother space.",
    "vendi": (
        "How many different samples there are, effectively, by how alike their features are. Read it beside real "
        "data's: noise counts as variety."
    ),
    "bits_per_dimension": (
        "Bits that unseen examples cost for each of their numbers under the model's likelihood, or its bound. Lower: "
        "it finds them more plausible; 8 is what an 8-bit pixel costs anyway."
    ),
    "rate": (
        "Bits that the codes of an unseen example cost: the divergence of Gaussian codes from their prior, or the "
        "logarithm of all the codes that there are. Compare the reconstructions of equal rates."
    ),
    "reconstruction_psnr": (
        "Peak signal-to-noise ratio of unseen examples after encoding and decoding, in decibels of the mean squared "
        "error. It rewards blur. Of a model of codes, that of the autoencoder within it."
    ),
    "reconstruction_frechet": (
        "Fréchet distance of unseen examples to themselves after encoding and decoding: what the codes lose, before "
        "any is made up. No sample of a model of codes can be expected to come nearer."
    ),
    "codebook_use": "Share of a codebook's entries that unseen examples use at all.",
    "perplexity": "How many entries of a codebook are in use effectively, by how often unseen examples use each.",
    "active_units": "How many dimensions of the code are used by real data: their mean moves with the example.",
    "midpoints": (
        "How plausible samples half-way between two codes are, relative to samples: share inside real data's "
        "neighbourhoods. 1: as real as the ends."
    ),
    "mixed_midpoints": (
        "The same for the plain mean of the two samples, pixel by pixel: what no latent space is needed for."
    ),
    "path_length": "Length of the way between two codes, in features, relative to the straight line. 1: straight.",
    "denoising": (
        "What is left of noise (half the data's deviation) after encoding and decoding: squared error to the clean "
        "example, relative to the noisy one. 0: nothing; 1: all."
    ),
    "critic": (
        "How well the model's own critic tells unseen real data from samples: area under its curve. 0.5: at chance."
    ),
    "log_likelihood": (
        "Mean logarithm of the probability density that the model gives to unseen real examples. Higher: it finds "
        "them more plausible."
    ),
    "reconstruction": (
        "Mean squared error between unseen examples and what is left of them after encoding and decoding."
    ),
    "recall": "Share of unseen real data that lie where samples lie: how much of the variety is reached.",
    "coverage": (
        "Share of unseen real examples that have a sample in their own neighbourhood; harder to fool by outliers "
        "than recall."
    ),
    "diversity": "Mean distance between two samples relative to real data. 1: as varied; 0: always the same.",
    "modes": "How many of the known clusters of the data appear among the samples.",
    "at_modes": "Share of samples that lie at one of the known clusters.",
    "samples_per_second": "Samples that the model makes in a second, many at once, on the machine named below.",
    "first_sample_seconds": "Time until one single sample is there.",
    "calls": "Evaluations of the network for one sample; guidance counts twice.",
    "spread": "Standard deviation of the quality figure between trainings that differ only in their seed.",
    "events": (
        "What went wrong in training, counted: not finite, constant, collapsed and so on. A rollback is a return "
        "to the last good state."
    ),
    "train_seconds": "Time that the training took.",
    "examples": "Training examples that the model saw, repeats counted.",
    "examples_per_second": "Training examples a second.",
    "parameters": "Numbers that were learned.",
    "model_bytes": "Size of the trained model on disk.",
    "train_memory_bytes": (
        "The most memory of the process while it trained this model, PyTorch and the comparison included; on a GPU the "
        "most that tensors took on it."
    ),
    "train_joules": (
        "Energy of the processors (where it can be read) and of the GPU that trained it, if one did (the extra `gpu`), "
        "while it trained; all else that they did is included."
    ),
    "sample_memory_bytes": "Memory that making the samples took beyond what the program and the loaded model held.",
    "verdict": (
        "Whether samples lie nearer to training examples than unseen real data do: copies, none, or too little "
        "data to tell. Beneath: the share of near-copies."
    ),
    "near_copies": (
        "Share of samples that are nearer to a training example than almost any unseen real example is. About "
        "0.01 when nothing was memorised."
    ),
    "memorisation": (
        "How near samples are to training examples rather than to unseen ones, relative to real data. 1: no "
        "nearer; 0: copies."
    ),
}
