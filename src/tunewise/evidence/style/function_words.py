"""The closed classes of English: the words of a text that say how it is said and not what about.

Pronouns, determiners, prepositions, conjunctions, auxiliaries, particles, numerals-as-quantifiers, adverbs of
degree, time and stance, interjections, forms of address, and contractions, the older forms of each included.
"""

_WORDS = """
a an the this that these those such some any no every each either neither both all half many much more most
few fewer fewest little less least several enough one ones two other others another same own
i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself
we us our ours ourselves they them their theirs themselves who whom whose which what whoever whatever
whichever someone somebody something anyone anybody anything everyone everybody everything nobody nothing none
thou thee thy thine thyself ye yourn 'tis 'twas 'twere 'twill
of in to for with on at by from as into like through after over between out against during without before
under around among amongst above across behind beyond below beneath beside besides near off up down upon
within toward towards since until till unto about along per via despite except than amid onto whereas whilst
and or but nor so yet if because although though unless while whether when where why how whenever wherever
hence thus therefore thence whence hither thither whither wherefore whereof wherein whereby hereby herein
therein thereof thereby moreover furthermore however nevertheless nonetheless otherwise instead meanwhile
be am is are was were been being do does did done doing have has had having can could shall should will would
may might must ought need dare used let lets get got gets gotten
art wert wast hast hath hadst dost doth didst canst couldst shalt shouldst wilt wouldst mayst mightst
not never ever n't cannot
very too quite rather almost just only even also still already again always often sometimes usually
perhaps maybe indeed really actually simply merely certainly surely probably possibly clearly obviously
literally basically honestly frankly sincerely truly kindly well then now here there today tonight once twice
soon later away back together apart else far forth anon ere oft nay aye ay yea verily forsooth prithee pray
alas alack ah oh o ha hey hi hello howdy ahoy cheers thanks thank please sorry welcome okay ok yes no yeah yep
nope wow hmm uh um oops bye goodbye farewell dear sir sirrah madam ma'am miss mister mr mrs ms mate
matey folks
aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mustn't needn't shan't shouldn't wasn't
weren't won't wouldn't ain't i'm i've i'll i'd you're you've you'll you'd he's he'll he'd she's she'll she'd
it's it'll it'd we're we've we'll we'd they're they've they'll they'd that's that'll that'd there's there'll
here's who's who'll who'd what's where's when's why's how's let's y'all gonna wanna gotta kinda sorta dunno
cuz cause 'em 'cause o'er e'er ne'er e'en
's 't 'd 'll 'm 're 've
"""

FUNCTION_WORDS: frozenset[str] = frozenset(_WORDS.split())
